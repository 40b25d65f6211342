/** What the pages, the daemon and the servers agree on. Written by `make docs` from contract.json. */

export const AT_REST = ['stopped', 'failed', 'crash_loop'];
export const PHONE_DIGITS = [8, 15];
export const GROUPS = {
    linked: ['ready', 'running'],
    waiting: ['qr', 'pairing'],
    working: ['generating', 'authenticated', 'disconnected', 'starting', 'stopping', 'moving'],
    trouble: ['passkey_required', 'error', 'failed', 'crash_loop', 'unreachable'],
    asleep: [],
    idle: ['qr_timeout', 'logged_out', 'stopped'],
};
