'use strict';

/** What runs in WhatsApp's page for the files of messages. */

const { withParts } = require('./in_page');

/**
 * The result of a download: `problem` is null if the file is kept. `none` = no such message, or no file in
 * it; `gone` = neither WhatsApp nor the phone has it; `large`.
 *
 * @typedef {object} Download
 * @property {string|null} problem
 * @property {number} [size]
 * @property {string|null} [type]
 * @property {string|null} [name]
 */

/** @typedef {{data: BlobPart, type: string|null, name: string|null}} Downloaded */

/**
 * Files that are being downloaded, or read, by their tickets.
 *
 * @returns {Map<string, {blob: Blob|null, abort: () => void}>}
 */
function openFiles() {
    window.waportd.files ??= new Map();
    return window.waportd.files;
}

/**
 * Download a file and keep it under a ticket, unless it is larger than it may be, or closed meanwhile.
 *
 * @param {string} ticket
 * @param {number|null} most
 * @param {(signal: AbortSignal) => Promise<Downloaded>} download rejects with `status` 404 where the file is
 *   gone
 * @returns {Promise<Download>}
 */
async function keepFile(ticket, most, download) {
    const aborting = new AbortController();
    const file = { blob: /** @type {Blob|null} */ (null), abort: () => aborting.abort() };
    openFiles().set(ticket, file);
    try {
        const { data, type, name } = await download(aborting.signal);
        const blob = new Blob([data]);
        file.blob = blob;
        const { size } = blob;
        const isLarge = most !== null && size > most;
        if (isLarge) openFiles().delete(ticket);
        return { problem: isLarge ? 'large' : null, size, type, name };
    } catch (error) {
        openFiles().delete(ticket);
        if (/** @type {{status?: number}|null} */ (error)?.status === 404) return { problem: 'gone' };
        throw error;
    }
}

/**
 * Runs in the page: download the file of a message, and keep it until it is closed.
 *
 * @param {string} id of the message
 * @param {number|null} most bytes; a larger one is not downloaded, nor kept where its sender lied; null = any
 * @param {string} ticket by which it is read and closed
 * @returns {Promise<Download>}
 */
async function openFile(id, most, ticket) {
    const { Msg } = window.require('WAWebCollections');
    const msg = Msg.get(id) ?? (await Msg.getMessagesById([id]))?.messages?.[0];
    if (!msg?.directPath || !msg.mediaData) return { problem: 'none' };
    const announced = Number(msg.size);
    if (most !== null && announced > most) return { problem: 'large', size: announced };
    const stage = () => String(msg.mediaData.mediaStage);
    // An expired file is requested again; while the phone uploads it, there is nothing to download.
    if (stage() === 'REUPLOADING') return { problem: 'gone' };
    if (stage() !== 'RESOLVED') await msg.downloadMedia({ downloadEvenIfExpensive: true, rmrReason: 1 });
    if (stage().includes('ERROR') || stage() === 'FETCHING') return { problem: 'gone' };

    return keepFile(ticket, most, async (signal) => {
        const { downloadManager } = window.require('WAWebDownloadManager');
        const quiet = { addAnnotations: () => quiet, addPoint: () => quiet };
        const data = await downloadManager.downloadAndMaybeDecrypt({
            directPath: msg.directPath,
            encFilehash: msg.encFilehash,
            filehash: msg.filehash,
            mediaKey: msg.mediaKey,
            mediaKeyTimestamp: msg.mediaKeyTimestamp,
            type: msg.type,
            signal,
            downloadQpl: quiet,
        });
        return { data, type: msg.mimetype ?? null, name: msg.filename ?? null };
    });
}

/** Runs in the page: let go of a file, or give its download up. @param {string} ticket */
function closeFile(ticket) {
    openFiles().get(ticket)?.abort();
    openFiles().delete(ticket);
}

module.exports = {
    closeFile: withParts(closeFile, openFiles),
    keepFile,
    openFile: withParts(openFile, openFiles, keepFile),
    openFiles,
};
