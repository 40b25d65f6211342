/** The page's half of its weight: elements, models, a database, a worker and a socket. See ../weight.js. */

import { addChat, addContact } from './chats.mjs';
import { createWid, encodeB64, me, randomBytes, toLid } from './ids.mjs';
import { completed, settled } from './profile.mjs';
import { config, pause, traits } from './site.mjs';

const DATABASE = 'model-storage';
const RECORDS_AT_ONCE = 2_000;
/** Bytes of a message in the database: its text is encrypted there. */
const RECORD_BYTES = 700;
const FIRST_MESSAGE = Date.parse('2025-06-01T12:00:00Z') / 1000;
const WORDS = 'bom dia tudo certo amanhã envio o pedido obrigada até logo combinado pode ser às nove'.split(
    ' ',
);
/** One message of so many is a picture, with a small one of it in its body. */
const PICTURE_ONE_OF = 5;
const THUMBNAIL_BYTES = 900;
const LOGIN_ELEMENTS = 400;
const MAIN_ELEMENTS = 3_000;
const ROWS = 24;
const TICK_MS = 1_000;
/** How often it writes how long ago people were seen, in ticks. */
const SEEN_TICKS = 10;

const { weight } = config;

// ---- code -----------------------------------------------------------------------------------------

/** Loads code, a file after another. */
async function load(files) {
    for (const src of files) {
        const script = Object.assign(document.createElement('script'), { src });
        await new Promise((resolve, reject) => {
            script.onload = resolve;
            script.onerror = reject;
            document.head.append(script);
        });
    }
}

// ---- elements -------------------------------------------------------------------------------------

/** What a page's framework keeps of each of its elements, twice. */
const fibers = [];

function fiberOf(element, parent) {
    const fiber = () => ({
        tag: 5,
        key: null,
        elementType: element.localName,
        type: element.localName,
        stateNode: element,
        return: parent,
        child: null,
        sibling: null,
        index: fibers.length,
        ref: null,
        pendingProps: { className: element.className, children: [] },
        memoizedProps: { className: element.className, role: null, onClick: () => element },
        updateQueue: null,
        memoizedState: { baseState: null, next: null },
        dependencies: null,
        mode: 1,
        flags: 0,
        subtreeFlags: 0,
        deletions: null,
        lanes: 0,
        childLanes: 0,
        alternate: null,
    });
    const made = fiber();
    made.alternate = { ...fiber(), alternate: made };
    fibers.push(made);
    return made;
}

/** Draws so many elements, a few below each other, with rules of the style on each. */
function draw(count) {
    const place = document.createElement('div');
    place.className = 'app';
    let parent = place;
    for (let index = 0; index < count; index++) {
        const element = document.createElement(['div', 'span', 'button'][index % 3]);
        element.className = Array.from(
            { length: 8 },
            (_, rule) => `x${((index * 31 + rule * 977) % weight.rules).toString(36)}`,
        ).join(' ');
        if (index % 4 === 0) element.textContent = WORDS[index % WORDS.length];
        element.setAttribute('aria-label', `${index}`);
        fiberOf(element, fibers.at(-1) ?? null);
        parent.append(element);
        parent = index % 12 === 11 ? place : element;
    }
    document.body.append(place);
    return place;
}

function drawPictures(place) {
    for (let index = 0; index < ROWS; index++) {
        const picture = document.createElement('img');
        picture.src = `/weight/picture-${index % weight.pictures}.bmp`;
        place.prepend(picture);
    }
    for (let index = 0; index < weight.sheets; index++) {
        const emoji = document.createElement('span');
        emoji.style.cssText = 'display:inline-block;width:20px;height:20px';
        emoji.style.backgroundImage = `url(/weight/sheet-${index}.bmp)`;
        place.prepend(emoji);
    }
}

// ---- database -------------------------------------------------------------------------------------

async function openDatabase() {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => {
        for (const name of ['chat', 'contact']) request.result.createObjectStore(name, { keyPath: 'id' });
        const messages = request.result.createObjectStore('message', { keyPath: 'id' });
        messages.createIndex('chat', 'chat');
        messages.createIndex('t', 't');
    };
    const database = await settled(request);
    // A logout deletes it.
    database.onversionchange = () => database.close();
    return database;
}

async function put(database, name, records) {
    for (let from = 0; from < records.length; from += RECORDS_AT_ONCE) {
        const transaction = database.transaction(name, 'readwrite');
        const place = transaction.objectStore(name);
        for (const record of records.slice(from, from + RECORDS_AT_ONCE)) place.put(record);
        await completed(transaction);
    }
}

// ---- what the account has -------------------------------------------------------------------------

const numberAt = (index) => `55119${String(70_000_000 + index)}`;

/** The id that somebody has here: accounts of today know people by their LID. */
function idAt(index) {
    const wid = createWid(`${numberAt(index)}@c.us`);
    return String(traits.lid_chats ? toLid(wid) : wid);
}

const words = (index) =>
    Array.from({ length: 3 + (index % 14) }, (_, at) => WORDS[(index * 7 + at * 3) % WORDS.length]).join(' ');

function messageAt(chat, index, author) {
    const isPicture = index % PICTURE_ONE_OF === 3;
    return {
        id: `3EB0AAAA${String(chat).padStart(8, '0')}${String(index).padStart(4, '0')}`,
        t: FIRST_MESSAGE + chat * 60 + index,
        fromMe: index % 3 === 1,
        author,
        sender: `Contact ${chat}`,
        messageSecret: randomBytes(32),
        ...(isPicture
            ? {
                  type: 'image',
                  body: encodeB64(randomBytes(THUMBNAIL_BYTES)),
                  caption: words(index),
                  mimetype: 'image/jpeg',
                  directPath: `/media/weight-${chat}-${index}`,
                  mediaKey: encodeB64(randomBytes(32)),
                  filehash: encodeB64(randomBytes(32)),
                  encFilehash: encodeB64(randomBytes(32)),
                  size: 80_000,
                  width: 1_200,
                  height: 1_600,
              }
            : { type: 'chat', body: words(chat + index) }),
    };
}

function chatAt(index) {
    const isGroup = index % 7 === 3;
    const count = index < weight.recent ? weight.messagesOfRecent : 1;
    const author = isGroup ? idAt(index + 1) : undefined;
    return {
        id: isGroup ? `1203630002${String(index).padStart(8, '0')}@g.us` : idAt(index),
        name: isGroup ? `Group ${index}` : `Contact ${index}`,
        saved: !isGroup && index % 2 === 0,
        unread: index % 5,
        participants: isGroup
            ? Array.from({ length: weight.participants }, (_, at) => idAt((index + at) % weight.contacts))
            : undefined,
        messages: Array.from({ length: count }, (_, at) => messageAt(index, at, author)),
    };
}

/** All that is stored after the first login. */
async function store(database) {
    const chats = Array.from({ length: weight.chats }, (_, index) => chatAt(index));
    const contacts = Array.from({ length: weight.contacts }, (_, index) => ({
        id: idAt(index),
        name: index % 2 === 0 ? `Contact ${index}` : undefined,
        pushname: `${WORDS[index % WORDS.length]} ${index}`,
    }));
    await put(database, 'contact', contacts);
    for (const [index, { id }] of chats.entries()) {
        const count = weight.stored[index < 100 ? 0 : 1];
        const rows = Array.from({ length: count }, (_, at) => ({
            id: `${id}_${at}`,
            chat: id,
            t: FIRST_MESSAGE + index * 60 + at,
            row: randomBytes(RECORD_BYTES),
        }));
        await put(database, 'message', rows);
    }
    // Last: where it is not there the rest may be missing, too.
    await put(database, 'chat', chats);
    return { chats, contacts };
}

async function restore(database) {
    const all = (name) => settled(database.transaction(name).objectStore(name).getAll());
    const [chats, contacts] = await Promise.all([all('chat'), all('contact')]);
    return chats.length < weight.chats ? store(database) : { chats, contacts };
}

// ---- what continues ---------------------------------------------------------------------------------

let ticks = 0;

function tick(place) {
    ticks += 1;
    if (ticks % SEEN_TICKS === 0) place.firstElementChild.title = `${ticks}`;
}

/** What comes on the socket is decrypted, as far as this costs anything. */
async function openSocket() {
    const key = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt']);
    const socket = new window.WebSocket(`wss://${location.host}/weight/socket`);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) =>
        crypto.subtle.encrypt({ name: 'AES-GCM', iv: randomBytes(12) }, key, data);
    socket.onclose = async () => {
        await pause(5_000);
        openSocket();
    };
}

// ---- the two parts of it --------------------------------------------------------------------------

/** Before the login: the code has run already, by the document. */
export function begin() {
    draw(LOGIN_ELEMENTS);
    navigator.serviceWorker?.register('/service-worker.js').catch((error) => console.warn(error));
    openSocket();
}

let carried = false;

/** With the login: the rest of the code, the account's models and the screen. */
export async function carry() {
    if (carried) return;
    carried = true;
    await load(weight.files.main);
    const { chats, contacts } = await restore(await openDatabase());
    for (const { id, name, pushname } of contacts) addContact(createWid(id), { name, pushname });
    const members = me.lid && traits.lid_chats ? me.lid : me.phone;
    for (const chat of chats)
        addChat({ ...chat, participants: chat.participants && [...chat.participants, String(members)] });
    const place = draw(MAIN_ELEMENTS);
    drawPictures(place);
    const worker = new window.Worker('/weight/worker.js');
    worker.postMessage({ contacts: weight.contacts });
    setInterval(tick, TICK_MS, place);
}
