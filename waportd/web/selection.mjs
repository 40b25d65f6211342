/** Which users of the list are selected, to do something to all of them. Pure. */

export class Selection {
    /** @type {Set<string>} */
    #names = new Set();
    /** Where a range begins: the user that was selected last. @type {string|null} */
    #anchor = null;

    get size() {
        return this.#names.size;
    }

    has(/** @type {string} */ name) {
        return this.#names.has(name);
    }

    /**
     * Select a user, or no longer; with `range`, all from the last one on.
     *
     * @param {string} name
     * @param {boolean} on
     * @param {{shown: string[], range: boolean}} where the users of the list, in its order
     */
    set(name, on, { shown, range }) {
        const [from, to] = [shown.indexOf(this.#anchor ?? ''), shown.indexOf(name)].sort((a, b) => a - b);
        this.setAll(range && from >= 0 ? shown.slice(from, to + 1) : [name], on);
        this.#anchor = name;
    }

    setAll(/** @type {string[]} */ names, /** @type {boolean} */ on) {
        for (const name of names)
            if (on) this.#names.add(name);
            else this.#names.delete(name);
    }

    clear() {
        this.#names.clear();
        this.#anchor = null;
    }

    /** The selected ones of these users, by port; who is gone is not selected any more. */
    of(/** @type {Map<string, import('./types').User>} */ users) {
        for (const name of this.#names) if (!users.has(name)) this.#names.delete(name);
        const selected = [...users.values()].filter(({ user }) => this.#names.has(user));
        return selected.sort((a, b) => a.port - b.port);
    }
}
