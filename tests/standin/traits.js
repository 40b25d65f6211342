/** How the page behaves: one table, and what its build generates from a seed. */
'use strict';

const { MODULES, SHAPES } = require('../../server/surface');

/** Trait → [value of `today`, value of `2026-04`, what it means]; README.md shows the same table. */
const TRAITS = {
    build: ['2.3000.1044822804', '2.3000.1017054665', '`Debug.VERSION`'],
    debug: [true, true, 'whether there is `window.Debug`'],
    language: ['en', 'en', 'language of the screens: en, pt, es, de, ja'],
    serialized_keys: [false, true, 'keys of messages have their text in `_serialized`'],
    media_id: [true, false, 'the model of media has an id, which a spread puts over that of the message'],
    lid_chats: [true, false, 'people are known by their LID'],
    numbers_known: [true, true, 'the page knows the numbers of LIDs before it has asked WhatsApp for them'],
    strict_lookups: [true, false, 'looking for a message by what is no key is a DataError'],
    find_ms: [30, 0, 'how long WhatsApp takes to look somebody up'],
    sync_waits: [false, true, 'the sync waits until somebody listens for its end'],
    sync_ms: [0, 0, 'how long the sync takes after its last percentage'],
    progress: [[0, 50, 100], [0, 50, 100], 'percentages of the sync; it may end with 99'],
    unset_synced: [true, false, 'a logout unsets `hasSynced`, with its event'],
    replace_state: [true, false, 'after a logout the page takes the reason out of its address'],
    passkey_screen: [true, false, 'a passkey is asked for after a click only'],
    passkey_state: [
        'UNPAIRED',
        'PAIRING',
        '`Socket.state` in wait for a passkey; in UNPAIRED codes continue',
    ],
    help_part: [false, false, 'the code that the page draws has a sixth part'],
    comms_in_worker: [false, false, '`refreshQR` of WAWebLaunchSocketUtils starts the wrong side again'],
    download_needs_mimetype: [false, false, 'a download without `mimetype` is refused'],
    mute_sends: [false, false, 'the page takes messages, the site never acknowledges them'],
    one_description: [true, false, 'the description of a group is set with one object'],
    older_ms: [300, 0, 'how long a phone takes to hand over older messages'],
    refuse_sends: [false, false, 'the page takes messages, the site does not: their ack is -1'],
    chat_cost_ms: [0, 0, 'how long the page is busy with each chat, when it is made and when it is read'],
};

const SHAPE_NAMES = Object.keys(SHAPES);

/** @param {string} shape one of `SHAPE_NAMES` */
function traitsOf(shape) {
    const column = SHAPE_NAMES.indexOf(shape);
    return Object.fromEntries(Object.entries(TRAITS).map(([name, row]) => [name, row[column]]));
}

/** Return the modules of a shape: `MODULES` with its differences. */
function modulesOf(shape) {
    const modules = structuredClone(MODULES);
    for (const [name, { when, members }] of Object.entries(SHAPES[shape])) {
        modules[name] ??= { when, members: {} };
        for (const [member, kind] of Object.entries(members)) {
            if (kind === null) delete modules[name].members[member];
            else modules[name].members[member] = kind;
        }
    }
    return modules;
}

/** What the build calls the text of a message key, the fields of models and the map of calls. */
const GENERATED = [
    { key: '$1', field: '__x_', calls: '$CallCollectionImpl$p_1' },
    { key: '$7', field: '__y_', calls: '$CallCollectionImpl$p_3' },
    { key: '$q', field: '__k$', calls: '$c7' },
    { key: '$a2', field: '_$m_', calls: '_calls' },
];

/** @param {number} seed from 1 on; 1 gives the names of the builds of 2026 */
function namesOf(seed, { serialized_keys: serialized }) {
    const names = GENERATED[(seed - 1) % GENERATED.length];
    return serialized ? { ...names, key: '_serialized' } : names;
}

module.exports = { SHAPE_NAMES, TRAITS, modulesOf, namesOf, traitsOf };
