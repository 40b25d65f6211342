/** Keys and login of this device, stored in the browser profile. */

import { randomBytes } from './ids.mjs';

/** The result of a request to a database. */
export const settled = (request) =>
    new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });

/** Resolves when a transaction is done. */
export const completed = (transaction) =>
    new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error);
    });

let database;

const read = (key) => settled(database.transaction('session').objectStore('session').get(key));

/** Resolves when the value is on disk: a browser killed right after it still has it. */
function write(key, value) {
    const transaction = database.transaction('session', 'readwrite', { durability: 'strict' });
    transaction.objectStore('session').put(value, key);
    return completed(transaction);
}

/** `noise`, `identity` and `adv`: bytes; made when the profile is opened for the first time. */
export let keys = null;

export async function openProfile() {
    const request = indexedDB.open('wawc', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('session');
    database = await settled(request);
    keys = await read('keys');
    if (keys) return;
    const made = { noise: randomBytes(32), identity: randomBytes(32), adv: randomBytes(32) };
    await write('keys', made);
    keys = made;
}

export const keepLogin = (account) => write('login', account);
export const hasLogin = async () => Boolean(await read('login'));

export async function clearProfile() {
    database.close();
    for (const { name } of await indexedDB.databases()) await settled(indexedDB.deleteDatabase(name));
}
