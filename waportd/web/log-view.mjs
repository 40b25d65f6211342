/** What the journal has about a user's server: followed as it is written, searched, kept in a file. */

import { asProblem, call, now, userPath } from './api.mjs';
import { busy, el, idle, isBusy, save, say } from './dom.mjs';
import { figure, longDay, momentWithZone, timeOfDay } from './format.mjs';
import { asText, dayOf, fileName, pieces, severityOf, withoutName } from './log-lines.mjs';
import { explain, sayHere } from './saying.mjs';
import { Stream } from './stream.mjs';
import { dashboardText } from './texts.mjs';

const LINES = 200;
const MOST_LINES = 1_000;

const { log: text } = dashboardText;

/**
 * A line that is shown.
 *
 * @typedef {object} Shown
 * @property {HTMLElement} item
 * @property {HTMLElement} words
 * @property {string} message
 * @property {number} hits
 */

export class LogView {
    /** @type {HTMLElement} */
    element;
    #user;
    #level = el(
        'select.field',
        { 'aria-label': text.level, onchange: () => this.#begin() },
        ...Object.entries(text.levels).map(([value, label]) => el('option', { value }, label)),
    );
    #search = el('input.field', {
        type: 'search',
        placeholder: text.search,
        'aria-label': text.search,
        title: text.searchHelp,
        autocomplete: 'off',
        spellcheck: 'false',
        maxlength: '200',
        oninput: () => this.#mark(),
        onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKey(event),
    });
    #hits = el('span.quiet', { role: 'status' });
    #list = el('ol', { lang: 'en' });
    #note = el('p.quiet');
    #place = el(
        'div.log',
        { tabindex: '0', role: 'region', 'aria-label': text.title, onscroll: () => this.#onScroll() },
        this.#note,
        this.#list,
    );
    #news = el('button.button.news', { type: 'button', hidden: true, onclick: () => this.#follow() });
    #saved = el('button.button.text', { type: 'button', onclick: () => this.#download() }, text.download);
    #problem = el('p.problem', { role: 'alert' });
    /** @type {Stream|null} */
    #stream = null;
    /** What has come since the last drawing. @type {import('./types').LogLine[]} */
    #come = [];
    #drawing = 0;
    /** @type {Shown[]} */
    #lines = [];
    /** The day of the newest line. */
    #day = '';
    /** Whether the newest line is kept in sight: not while somebody reads further up. */
    #following = true;
    /** How many lines have come since then. */
    #unseen = 0;
    /** Which hit Enter went to. */
    #hit = -1;
    /** In a window of another size the lines break elsewhere: nobody has scrolled. */
    #resized = new window.ResizeObserver(() => this.#keepInSight());

    /**
     * @param {string} user
     * @param {...HTMLElement} others buttons that stand with those of the log
     */
    constructor(user, ...others) {
        this.#user = user;
        this.element = el(
            'div.group.log-group',
            { role: 'group', 'aria-labelledby': 'log-title' },
            el(
                'div.heading',
                {},
                el('h3', { id: 'log-title' }, text.title),
                el('span', {}, ...others, this.#saved),
            ),
            el('div.log-tools', {}, this.#level, this.#search, this.#hits, this.#problem),
            el('div.log-frame', {}, this.#place, this.#news),
        );
        this.#resized.observe(this.#place);
        this.#begin();
    }

    stop() {
        this.#resized.disconnect();
        this.#leave();
    }

    #leave() {
        this.#stream?.stop();
        cancelAnimationFrame(this.#drawing);
    }

    /** Follow the lines of the chosen level, from nothing. */
    #begin() {
        this.#leave();
        this.#come = [];
        this.#lines = [];
        this.#day = '';
        this.#drawing = 0;
        this.#list.replaceChildren();
        this.#note.hidden = false;
        sayHere(this.#note, text.reading);
        say(this.#problem, '');
        this.#mark();
        this.#follow();
        const { value: level } = this.#level;
        this.#stream = new Stream(
            userPath(this.#user, 'logs'),
            {
                on: { log: (line) => this.#add(line) },
                onLive: () => {
                    if (this.#lines.length === 0 && this.#come.length === 0)
                        sayHere(this.#note, level === 'all' ? text.silent : text.silentOfLevel);
                },
                onLost: (_, problem) => this.#explain(problem),
                onRefused: (problem) => this.#explain(problem),
            },
            { lines: LINES, follow: 'true', level },
        );
        this.#stream.start();
    }

    #explain(/** @type {import('./api.mjs').Problem|null} */ problem) {
        if (problem) explain(this.#note, problem);
        this.#note.hidden = !problem;
    }

    // ---- lines ----------------------------------------------------------------------------------

    /** Take a line. Those of one moment are drawn together. */
    #add(/** @type {import('./types').LogLine} */ line) {
        this.#come.push(line);
        if (this.#come.length > MOST_LINES) this.#come.shift();
        this.#drawing ||= requestAnimationFrame(() => this.#draw());
    }

    #draw() {
        this.#drawing = 0;
        this.#note.hidden = true;
        const query = this.#search.value.trim();
        for (const line of this.#come) this.#append(line, query);
        if (!this.#following) this.#unseen += this.#come.length;
        this.#come = [];
        while (this.#lines.length > MOST_LINES) this.#dropOldest();
        if (query !== '') this.#count();
        this.#keepInSight();
    }

    #append(
        /** @type {import('./types').LogLine} */ { time, priority, source, message },
        /** @type {string} */ query,
    ) {
        const day = dayOf(time);
        if (day !== this.#day) {
            this.#day = day;
            const date = el('time', { datetime: time }, longDay(time));
            this.#list.append(el('li.day', { lang: dashboardText.language }, date));
        }
        const words = el('span');
        const item = el(
            'li',
            { 'data-severity': severityOf(priority) },
            el('time', { datetime: time, title: momentWithZone(time) }, timeOfDay(time)),
            el('span', {}, source === 'server' ? null : el('i', {}, `${source}: `), words),
        );
        const line = { item, words, message: withoutName(message, this.#user), hits: 0 };
        highlight(line, query);
        this.#lines.push(line);
        this.#list.append(item);
    }

    /** Remove the oldest line, and its day where that has no other. */
    #dropOldest() {
        this.#lines.shift()?.item.remove();
        const [first, second] = this.#list.children;
        if (second?.className === 'day') first.remove();
    }

    // ---- following ------------------------------------------------------------------------------

    #follow() {
        this.#following = true;
        this.#keepInSight();
        // The button is about to go.
        if (document.activeElement === this.#news) this.#place.focus();
        this.#showNews();
    }

    #keepInSight() {
        if (this.#following) this.#place.scrollTop = this.#place.scrollHeight;
        this.#showNews();
    }

    #onScroll() {
        const { scrollTop, scrollHeight, clientHeight } = this.#place;
        const isAtEnd = scrollTop + clientHeight >= scrollHeight - 8;
        if (isAtEnd === this.#following) return;
        this.#following = isAtEnd;
        this.#showNews();
    }

    #showNews() {
        if (this.#following) this.#unseen = 0;
        this.#news.hidden = this.#following;
        say(this.#news, text.news(figure(this.#unseen)));
    }

    // ---- searching ------------------------------------------------------------------------------

    #mark() {
        const query = this.#search.value.trim();
        this.#hit = -1;
        for (const line of this.#lines) highlight(line, query);
        this.#count();
    }

    #count() {
        const hits = this.#lines.reduce((sum, line) => sum + line.hits, 0);
        say(this.#hits, this.#search.value.trim() === '' ? '' : text.hits(figure(hits)));
    }

    #onKey(/** @type {KeyboardEvent} */ event) {
        if (event.key === 'Enter') this.#goTo(event.shiftKey ? -1 : 1);
        if (event.key !== 'Escape' || this.#search.value === '') return;
        // It empties the field; the next one closes the panel.
        event.preventDefault();
        event.stopPropagation();
        this.#search.value = '';
        this.#mark();
    }

    /** Bring the next hit into sight, or the one before; the first time that is the newest one. */
    #goTo(/** @type {number} */ step) {
        const marks = this.#list.querySelectorAll('mark');
        if (marks.length === 0) return;
        marks[this.#hit]?.removeAttribute('aria-current');
        const next = this.#hit === -1 ? marks.length - 1 : this.#hit + step;
        this.#hit = (next + marks.length) % marks.length;
        marks[this.#hit].setAttribute('aria-current', 'true');
        marks[this.#hit].scrollIntoView({ block: 'nearest' });
        say(this.#hits, text.hitOf(figure(this.#hit + 1), figure(marks.length)));
    }

    // ---- a file ---------------------------------------------------------------------------------

    async #download() {
        if (isBusy(this.#saved)) return;
        busy(this.#saved, text.downloading);
        say(this.#problem, '');
        try {
            const query = { lines: MOST_LINES, level: this.#level.value };
            const { lines } = await call('GET', userPath(this.#user, 'logs'), { query });
            save(fileName(this.#user, now()), 'text/plain;charset=utf-8', asText(lines, this.#user));
        } catch (error) {
            explain(this.#problem, asProblem(error));
        } finally {
            idle(this.#saved, text.download);
        }
    }
}

/** Show where a line has what is looked for. */
function highlight(/** @type {Shown} */ line, /** @type {string} */ query) {
    const found = pieces(line.message, query);
    line.hits = found.filter(({ isHit }) => isHit).length;
    line.words.replaceChildren(
        ...found.map(({ text: part, isHit }) => (isHit ? el('mark', {}, part) : part)),
    );
}
