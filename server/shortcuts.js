'use strict';

/**
 * Optimisations for speed or memory: a switch for each. Everything works without them; docs/decisions/ says
 * what each costs and gives.
 *
 * - `compiled`: the library is loaded from its compiled form.
 * - `start_order`: slow work begins only when the calls that came while the server started are answered.
 * - `v8`: V8's nursery is kept small while much is loaded, and its shape of ticks is kept.
 */

/** The names of those that are turned off, with spaces between. */
const WITHOUT = (process.env.WAPORTD_WITHOUT ?? '').split(' ');

const compiled = !WITHOUT.includes('compiled');
const startOrder = !WITHOUT.includes('start_order');
const v8 = !WITHOUT.includes('v8');

module.exports = { compiled, startOrder, v8 };
