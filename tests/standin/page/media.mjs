/** Media: what is downloaded, and what is prepared and uploaded before a message goes out. */

import { defineModel } from './models.mjs';
import { encodeB64, randomBytes } from './ids.mjs';
import { traits, uplink } from './site.mjs';

// ---- in -------------------------------------------------------------------------------------------

class DownloadError extends Error {
    constructor(status) {
        super();
        this.status = status;
    }
}

/** Asks the phone to upload media again that the site has no more. */
export const expiredMedia = (directPath) => uplink('reupload', { directPath });

export const downloadManager = {
    async downloadAndMaybeDecrypt({ directPath, downloadQpl, mimetype, type, signal }) {
        const known = mimetype ?? 'application/octet-stream';
        downloadQpl.addAnnotations({ string: { mediaType: type, rawMimeType: known } });
        downloadQpl.addPoint('start');
        if (traits.download_needs_mimetype && known === 'application/octet-stream') {
            throw new DownloadError(415);
        }
        const answer = await fetch(directPath, { signal });
        if (!answer.ok) throw new DownloadError(answer.status);
        return answer.arrayBuffer();
    },
};

// ---- out ------------------------------------------------------------------------------------------

/** A blob that can be given back; one that was let go of cannot be used any more. */
export class OpaqueData {
    static async createFromData(data, type) {
        const made = new OpaqueData();
        made.blob = data instanceof Blob && data.type === type ? data : new Blob([data], { type });
        return made;
    }

    url() {
        this.address ??= URL.createObjectURL(this.blob);
        return this.address;
    }

    autorelease() {
        if (this.address) URL.revokeObjectURL(this.address);
        this.address = undefined;
    }

    formData() {
        return this.blob;
    }

    type() {
        return this.blob.type;
    }

    size() {
        return this.blob.size;
    }
}

const MEDIA_PROPS = `
    type mimetype filehash size filename mediaBlob isGif preview duration fullWidth fullHeight waveform
    renderableUrl clientUrl deprecatedMms3Url directPath mediaKey mediaKeyTimestamp encFilehash uploadhash
    streamingSidecar firstFrameSidecar mediaHandle
`
    .trim()
    .split(/\s+/);

/**
 * What is known of a message's media. Today's build gives it an id as well: who spreads this model into a
 * message overwrites the message's own.
 */
export const Media = defineModel(traits.media_id ? ['id', ...MEDIA_PROPS] : MEDIA_PROPS, ['mediaStage']);

/** What kind of message a file becomes: as wished, else by its type. */
function kindOf(mimetype, { asSticker, asDocument, isPtt }) {
    if (asDocument) return 'document';
    if (asSticker) return 'sticker';
    const [family] = mimetype.split('/');
    if (family === 'audio') return isPtt ? 'ptt' : 'audio';
    return ['image', 'video'].includes(family) ? family : 'document';
}

const hashOf = async (blob) => encodeB64(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer()));

export function prepRawMedia(opaque, wishes) {
    const { blob } = opaque;
    return {
        waitForPrep: async () =>
            new Media({
                type: kindOf(blob.type, wishes),
                mimetype: blob.type,
                filehash: await hashOf(blob),
                size: blob.size,
                filename: blob.name,
                isGif: Boolean(wishes.asGif),
                mediaBlob: opaque,
                mediaStage: 'RESOLVED',
            }),
    };
}

const objects = new Map();

export function getOrCreateMediaObject(filehash) {
    if (!objects.has(filehash)) {
        objects.set(filehash, {
            filehash,
            contentInfo: {},
            consolidate(known) {
                Object.assign(this, known);
            },
        });
    }
    return objects.get(filehash);
}

/** Hands a blob to the site; the answer is what a message needs to name it by. */
async function upload(blob) {
    const headers = { 'Content-Type': blob.type || 'application/octet-stream' };
    const answer = await fetch('/upload', { method: 'POST', headers, body: blob });
    if (!answer.ok) throw new DownloadError(answer.status);
    const { directPath } = await answer.json();
    return {
        directPath,
        mmsUrl: directPath,
        url: directPath,
        deprecatedMms3Url: directPath,
        mediaKey: encodeB64(randomBytes(32)),
        mediaKeyTimestamp: Math.floor(Date.now() / 1000),
        encFilehash: encodeB64(randomBytes(32)),
        uploadHash: encodeB64(randomBytes(32)),
    };
}

export const uploadMedia = async ({ mediaObject }) => ({
    kind: 'success',
    mediaEntry: await upload(mediaObject.mediaBlob.formData()),
});

export const encryptAndUpload = ({ blob }) => upload(blob);
export const startMediaUploadQpl = () => ({ addAnnotations() {}, addPoint() {} });
export const msgToMediaType = ({ type, isGif }) => (isGif ? 'gif' : type);
export const castToV4 = (type) => type;
export const shouldUseMediaCache = (type) => type !== 'document';
export const InMemoryMediaBlobCache = new Map();
InMemoryMediaBlobCache.put = (hash, blob) => InMemoryMediaBlobCache.set(hash, blob);
/** Says that it is a sticker; the picture stays what it was. */
export const toWebpSticker = async (file) => new Blob([file], { type: 'image/webp' });
