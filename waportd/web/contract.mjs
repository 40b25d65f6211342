/** What the pages, the daemon and the servers agree on. Written by `make docs` from contract.json. */

export const AT_REST = ['stopped', 'failed', 'crash_loop'];
export const PHONE_DIGITS = [8, 15];
