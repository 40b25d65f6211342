'use strict';

/**
 * What exists only for speed or for memory: a switch for each. Everything works without it; docs/decisions/
 * says what each costs and gives.
 *
 * - `start_order`: what takes long is begun only when those who called while the server started are answered.
 * - `v8`: V8's nursery is kept small while much is loaded, and its shape of ticks is kept.
 */

/** The names of those that are turned off, with spaces between. */
const WITHOUT = (process.env.WAPORTD_WITHOUT ?? '').split(' ');

const startOrder = !WITHOUT.includes('start_order');
const v8 = !WITHOUT.includes('v8');

module.exports = { startOrder, v8 };
