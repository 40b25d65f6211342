/** The same tests on the page that version 1.34.7 of the library was written for, with other names. */
'use strict';

process.env.STANDIN_SHAPE = '2026-04';
process.env.STANDIN_SEED = '2';
require('./selftest');
