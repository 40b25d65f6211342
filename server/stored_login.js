'use strict';

/** Whether a login is stored, as far as that is known, in memory and in the note beside the profile. */
class Login {
    /**
     * Whether the profile holds a login; 'unknown' until a page has shown it.
     *
     * @type {boolean|'unknown'}
     */
    known = false;

    #storage;
    #log;
    #onChange;
    #read = false;
    #noted = Promise.resolve();

    /**
     * @param {object} options
     * @param {import('./storage').Storage} options.storage
     * @param {import('./types').Log} options.log
     * @param {(linked: boolean) => void} options.onChange called with `linked` whenever it may have changed
     */
    constructor({ storage, log, onChange }) {
        this.#storage = storage;
        this.#log = log;
        this.#onChange = onChange;
    }

    /** A login that may be there counts: nobody else may link a phone over it. */
    get linked() {
        return this.known !== false;
    }

    get isRead() {
        return this.#read;
    }

    /** Resolves when every note so far is on the disk, or could not be written. */
    get noted() {
        return this.#noted;
    }

    /** Learn what is stored. @throws {SessionError} */
    async read() {
        try {
            this.known = await this.#storage.login();
            this.#read = true;
        } catch (error) {
            this.known = 'unknown';
            throw error;
        } finally {
            this.#onChange(this.linked);
        }
    }

    /** Take what the page shows for the truth, and write it down. */
    set(/** @type {boolean} */ known) {
        if (known === this.known) return;
        this.known = known;
        this.#onChange(this.linked);
        this.note(known);
    }

    /** Write down what a start after a crash has to know of the login; one note after the other. */
    note(/** @type {boolean|'unknown'} */ known) {
        this.#noted = this.#noted
            .then(() => this.#storage.noteLogin(known))
            .catch((error) => this.#log.error(error.message, { cause: error.cause }));
    }
}

module.exports = { Login };
