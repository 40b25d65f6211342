/**
 * Types that the modules of this server share, each defined once. They do not exist at run time: `tsc` checks
 * them (`make lint`).
 */

import type { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable, Writable } from 'node:stream';

import type { Page } from 'puppeteer';

import type { BrowserChoice } from './browser';
import type { BrowserVersions } from './browser_version';
import type { Delivery } from './delivery';
import type { ClientParts } from './engine';
import type { SessionError } from './errors';
import type { Login } from './stored_login';
import type { BrowserRun } from './browser_run';
import type { SessionState } from './state';
import type contract from './contract.json';
import type { Storage } from './storage';
import type { Turns } from './turns';

// ---- the whole server -------------------------------------------------------------------------------------

/** The configuration, as config.js reads it: times in seconds, sizes in bytes, null = not set. */
export interface Config {
    readonly port: number;
    readonly user: string | null;
    readonly label: string;
    readonly clientId: string;
    readonly stateDirectory: string;
    readonly authDirectory: string;
    readonly cacheDirectory: string;
    readonly allowUids: number[] | null;
    readonly webhookUrl: URL | null;
    readonly webhookSecrets: string[];
    readonly webhookHeaders: Readonly<Record<string, string>>;
    readonly webhookEvents: string[];
    readonly webhookTimeout: number;
    readonly webhookRetry: number;
    readonly ignore: string[];
    readonly journalAge: number;
    readonly journalSize: number;
    readonly defaultCountry: string | null;
    readonly mediaFromPrivate: boolean;
    readonly sendRate: number;
    readonly clientIdPrefix: string;
    readonly browser: string;
    readonly browserArgs: string[];
    readonly proxy: ProxyChoice;
    readonly engine: string | null;
    /** Where engines lie compiled; null = nowhere. */
    readonly compiled: string | null;
    readonly webVersion: string | null;
    readonly qrMaxRetries: number;
    readonly qrLifetime: [first: number, later: number];
    readonly startTimeout: number;
    readonly readyTimeout: number;
    readonly probeInterval: number;
    readonly idleTimeout: number;
    readonly turnWait: number;
    readonly snapshotInterval: number;
    readonly snapshots: number;
    readonly cacheMax: number;
    readonly mediaMax: number;
}

/** A proxy with its login, or none (no `server`); null = what the environment says. */
export type ProxyChoice = { server: string | null; username: string | null; password: string | null } | null;

type Line = (event: string, fields?: object) => void;

/** The log of one server: a line each, with fields. */
export interface Log {
    error: Line;
    warning: Line;
    info: Line;
    debug: Line;
}

// ---- what comes by HTTP -----------------------------------------------------------------------------------

/** A JSON object as a caller wrote it. */
export type JsonObject = Record<string, unknown>;

/** A call of a route. */
export interface Call {
    request: IncomingMessage;
    response: ServerResponse;
    /** Values in its path in place of `{name}`. */
    params: Record<string, string>;
    query: URLSearchParams;
    body: JsonObject;
}

/** Returns the JSON of a 200 answer, as a value or as text; undefined where it has answered itself. */
export type Handle = (call: Call) => unknown;

export type ReadBody = (request: IncomingMessage, response: ServerResponse) => Promise<JsonObject>;

export interface Route {
    method: string;
    path: string;
    about: string;
    handle: Handle;
    /** Reads the body in place of the usual way. */
    read?: ReadBody;
}

export type AddRoute = (
    method: string,
    path: string,
    about: string,
    handle: Handle,
    more?: { read?: ReadBody },
) => void;

/** Does work for a request, if the page has what a feature needs; what goes wrong becomes an HttpError. */
export type Answering = <Result>(
    feature: string,
    what: string,
    work: () => Result | Promise<Result>,
) => Promise<Result>;

/** The same work with the session. */
export type OnSession = <Result>(
    feature: string,
    work: (client: SessionClient, leftMs: number) => Promise<Result>,
    limitMs: number,
    what: string,
) => Promise<Result>;

/** Functions that add paths, as routes.js gives them. */
export interface RouteTools {
    add: AddRoute;
    answering: Answering;
    onSession: OnSession;
}

/** The part of a list that a call wants, as it wrote it. */
export interface GivenPage {
    limit: string | null;
    offset: string | null;
}

// ---- what is sent -----------------------------------------------------------------------------------------

export type Recipient = import('./numbers').Recipient;

/** A message to send, as outgoing.js reads it. */
export interface Message {
    to: Recipient;
    /** The features of surface.js that it needs. */
    feature: string;
    media: import('./outgoing').Media | null;
    what: import('./sending_page').What;
}

// ---- what is shown ----------------------------------------------------------------------------------------

export type StateName = keyof typeof contract.session_states;
export type PasskeyStage = keyof typeof contract.passkey_stages;
export type TurnName = keyof typeof contract.turns;

/** What is shown to people: what happened, a cause that programs know, and how to fix it. */
export interface Shown {
    message: string;
    cause?: string | null;
    hint?: string | null;
}

export interface PairingCode {
    code: string;
    expires_at: string;
}

/** What is known of WhatsApp's page, and of the library that works with it. */
export interface Upstream {
    build: string | null;
    library: string | null;
    engine: string;
    pinned: string | null;
    ok: boolean;
    checked: string[];
    missing: { feature: string; module: string; member: string; found?: string }[];
    shims: Record<string, unknown>;
}

/** The one document of the session that everybody is shown: docs/server.md. Times are ISO 8601 in UTC. */
export interface SessionDocument {
    port: number;
    user: string | null;
    state: StateName;
    since: string;
    message: string;
    cause: string | null;
    hint: string | null;
    qr: string | null;
    expires_at: string | null;
    pairing: (PairingCode & { phone: string }) | null;
    passkey: {
        stage: PasskeyStage | null;
        options: object | null;
        expires_at: string | null;
        code: string | null;
    } | null;
    progress: number | null;
    attempt: number;
    attempts: number;
    ready: boolean;
    linked: boolean;
    phone_number: string | null;
    pushname: string | null;
    platform: string | null;
    browser: { path: string; running: boolean } | null;
    upstream: Upstream;
    turn: TurnName | null;
    storage: ({ snapshot_at?: string | null; restored_at?: string | null } & Record<string, unknown>) | null;
    journal: object | null;
    webhook: Delivery['counts'];
}

// ---- the page ---------------------------------------------------------------------------------------------

/** An object of WhatsApp's page, or of the library: theirs to change with any build, so nothing is known of it. */
export type WhatsAppObject = any;

/** The page asks the browser for a passkey, and waits for one of the two answers, `limitMs` at most. */
export interface PasskeyCall {
    id: string;
    options: any;
    limitMs: number;
    answer(credential: object): void;
    refuse(error: string): void;
}

/** What the page, or the library in it, reports: the events of `SessionClient`, with their arguments. */
export interface PageEvents {
    /** The page is there, before anything is loaded; `version` is the browser's own, or null. */
    browser: [browser: EventEmitter, page: EventEmitter, version: string | null];
    /** The site answered, but not with its page. */
    http_error: [status: number];
    /** Another document began to load in the main frame. */
    document: [];
    /** The profile holds no login. */
    login_needed: [];
    login_found: [];
    /** A code to scan, and one to type. */
    qr: [text: string];
    code: [code: string];
    pairing_failed: [error: any];
    /** WhatsApp's own connection state, before and after the login. */
    socket: [connection: string];
    passkey_screen: [];
    passkey_call: [call: PasskeyCall];
    /** The page waits for the answer to a call no longer: `timeout`, `aborted`, `superseded`. */
    passkey_over: [id: string, why: string];
    authenticated: [];
    loading_screen: [percent: number];
    ready: [];
    /**
     * WhatsApp's number for why it logged the page out, null = somebody unlinked it; and its words, or null.
     */
    logout: [why: number | null, words: string | null];
    upstream: [upstream: Pick<Upstream, 'build' | 'ok' | 'checked' | 'missing' | 'shims'>];
    /** There is a login, and the library cannot be made ready. */
    load_failed: [error: any];
    /** The page of a ready session could not be checked. */
    check_failed: [error: any];
    /** WhatsApp bans the account for a while: until then, in milliseconds since the epoch, or null. */
    banned: [ban: { code: number | null; until: number | null }];
    auth_failure: [];
    /** Injection into a page that was loaded again failed. */
    failed: [error: any];
}

/** What the page shows: session_page.js. */
export interface Look {
    /** Its modules are there. */
    loaded: boolean;
    /** WhatsApp's words for its connection and its screen. */
    state: string | null;
    mode: string | null;
    /** The account is loaded. */
    synced: boolean;
    passkey: boolean;
    refused: boolean;
}

/** A button of the screen on which WhatsApp wants a passkey. */
export type PasskeyButton = 'continue' | 'confirm' | 'cancel';

/** The screen on which WhatsApp wants a passkey. */
export interface PasskeyScreen {
    card: string | null;
    button: string | null;
    failed: boolean;
    code: string | null;
}

type Calls = InstanceType<ReturnType<typeof import('./page_calls').withCalls>>;
type Named<Type> = {
    [Name in keyof Type as string extends Name ? never : number extends Name ? never : Name]: Type[Name];
};

/** Calls of the page about chats, messages, people and groups: page_calls.js, and nothing else. */
export type PageCalls = Omit<Named<Calls>, keyof EventEmitter | keyof ClientParts>;

/**
 * What a session needs of its browser's page: whatsapp.js makes it of the library, tests/light_server.js
 * without a browser. Calls about messages are separate (messaging.js).
 */
export interface SessionClient extends EventEmitter, PageCalls {
    on<Name extends keyof PageEvents>(name: Name, listener: (...args: PageEvents[Name]) => void): this;
    on(name: string, listener: (...args: any[]) => void): this;

    readonly pupBrowser: object | null;
    readonly pupPage: Page;
    readonly info?: { wid?: { user?: string }; pushname?: string; platform?: string };
    /** Whether the browser gave no sign of life when it was asked for one. */
    readonly standsStill: boolean;
    readonly turns: Turns;
    readonly downloads: Turns;
    readonly requests: Turns;
    readonly changes: Turns;

    initialize(): Promise<void>;
    destroy(): Promise<void>;
    /** WhatsApp's word for its connection. */
    getState(): Promise<string | null>;
    look(): Promise<Look>;
    /** The site's answer to the browser; see session_errors.js. */
    reach(): Promise<{ error: string | null; status: number | null }>;
    reload(): Promise<void>;
    refreshQr(): Promise<void>;
    unlink(): Promise<void>;
    passkeyScreen(): Promise<PasskeyScreen | null>;
    pressPasskey(button: PasskeyButton): Promise<{ way: string | null; outline: unknown }>;
    getContactLidAndPhone: ClientParts['getContactLidAndPhone'];
    /** The bytes of a file that `openFile` or `openPicture` keeps, once. */
    readFile(ticket: string): AsyncIterable<Buffer>;
}

export interface SessionClientOptions {
    clientId: string;
    dataPath: string;
    /** The browser, which may still be starting. */
    process: BrowserProcess | null;
    /** How a browser of that version identifies itself. */
    identity: (version: string) => { userAgent: string; [name: string]: unknown };
    /** The phone for which a pairing code is requested; null = codes to scan. */
    phone: string | null;
    startLimitMs: number;
    /** The file of a pinned page. */
    pinned: string | null;
    proxy: ProxyChoice;
}

export type SessionClientClass = new (options: SessionClientOptions) => SessionClient;

// ---- the browser ------------------------------------------------------------------------------------------

/** A browser's processes: launch.js starts them. */
export interface BrowserProcess {
    /** That of its group, too; undefined where it could not be started. */
    readonly pid: number | undefined;
    readonly pipe: { write: Writable; read: Readable };
    /** Resolves when its first process has ended, or was never there. */
    readonly ended: Promise<void>;
    kill(): void;
    /** Return why it did not start; ends it. */
    explain(): Promise<SessionError>;
}

export type StartBrowser = (
    file: string,
    args: string[],
    profile: string,
    env: NodeJS.ProcessEnv,
) => BrowserProcess;

/** The parts of a run of the browser. */
export interface RunOptions {
    config: Config;
    storage: Storage;
    choice: Pick<BrowserChoice, 'pick'>;
    versions: BrowserVersions;
    startBrowser: StartBrowser;
    log: Log;
    /** The phone for which a pairing code is wanted; null = QR codes. */
    phone: string | null;
}

/** How a run probes its page, and who takes the results. */
export interface Probing {
    /** Asks the page once. */
    ask(): Promise<unknown>;
    /** Returns whether the page may have much to do: then it may be silent for longer. */
    loads(): boolean;
    /** Takes what it answers. */
    onSeen(seen: unknown): void;
    /** Called in each interval in which it does not answer. */
    onBusy(): void;
    /** `browser_lost`: the browser has lost the processes that draw its pages. Ends the probing. */
    onHung(kind: 'page_hung' | 'browser_lost'): void;
}

// ---- events -----------------------------------------------------------------------------------------------

export type EventName = keyof typeof contract.events;
export type ChatType = 'person' | 'group' | 'channel' | 'status' | 'broadcast';

/** What the journal and the delivery know of an event; the rest is for its reader. */
export interface JournalEvent {
    event: string;
    event_id: string;
    chat?: { id: string | null };
    from?: string | null;
    [member: string]: unknown;
}

/** Somebody; each null where it is not known. */
export interface Person {
    id: string | null;
    phone: string | null;
    lid: string | null;
    name: string | null;
}

/** An event as describe.js makes it: docs/server.md has all its members. Times are in milliseconds. */
export interface WhatsAppEvent extends JournalEvent {
    event: EventName;
    timestamp: number | null;
    recovered: boolean;
    chat?: { id: string | null; type: ChatType | null; name: string | null };
    sender?: Person;
    /** Who deleted a message; null = not known. */
    by?: Person | null;
    call?: { id: string | null; from: string | null; phone: string | null; video: boolean; group: boolean };
}

/** An event in the journal; `at`: when it was written, in milliseconds. */
export interface Entry {
    cursor: string;
    event: JournalEvent;
    at: number;
}

/** From when on messages are wanted, and until when none is missing, in milliseconds; null = never set. */
export interface JournalMark {
    from: number | null;
    until: number | null;
}

// ---- a session and one run of its browser -----------------------------------------------------------------
//
// session.js makes and commands page_events.js, that the two phases, and all of them browser_run.js. What
// happens goes the other way: as `PageEvents` from the page, as `Probing` from the run, as `RunEvents` to the
// session.

/** What can go wrong with a run: the keys of `TROUBLES`, in recovery.js. */
export type Trouble = keyof typeof import('./recovery').TROUBLES;

/** What one run of the browser may decide, and report, about the session it belongs to. */
export interface RunEvents {
    readonly login: Login;
    /** Something happened to a message, or a call came; with the client that can be asked about it. */
    onEvent(event: WhatsAppEvent, client: SessionClient | null): void;
    /** The run could not be started, or not to its end. */
    failed(error: Error): void;
    /** The page gives neither a code nor a login. */
    silent(): void;
    trouble(kind: Trouble, why: SessionError): void;
    /** The page is to be reloaded, in the same browser. */
    reload(): void;
    /** The page was logged out: see `PageEvents.logout`. */
    loggedOut(why: number | null, words: string | null): void;
    /** The page shows a code where a login should be. Returns whether that is still to be found out. */
    loginMissing(): boolean;
    /** A code or a login has come. */
    succeeded(): void;
    linked(): void;
    ready(): void;
    /** There is a pairing code, or WhatsApp gave none. */
    paired(code: PairingCode): void;
    unpaired(error: any): void;
    /** A phone has answered: somebody is there. */
    phoneAnswered(): void;
    /** Whether somebody has asked in the last so many milliseconds. */
    isFollowed(ms: number): boolean;
    /** Codes to scan take the place of one to type. */
    scanAgain(): void;
    /** This run is no longer wanted. */
    giveUp(): void;
    /** Whether the trouble has lasted for a while. */
    serious(): boolean;
}

/** What the phases of one run share: the state of its codes and of its login. */
export interface RunParts {
    run: BrowserRun;
    config: Config;
    state: SessionState;
    log: Log;
    session: RunEvents;
}

/** What the passkey step asks of the codes that it interrupts. */
export interface Codes {
    /** How long ago a code came that is not shown, in milliseconds. */
    readonly codeAge: number;
    /**
     * No code is shown, requested or counted until `resume`. Returns whether that is so: false = nobody had a
     * code to scan or to type.
     */
    pauseForPasskey(): boolean;
    /**
     * Codes are shown again; `isOver`: whether the page has ended the step, so that a code which came with
     * that is its next one.
     */
    resume(shown: Shown, isOver?: boolean): void;
}

/** Where a linked session continues: with its next try, and why. */
export interface NextTry {
    step: string;
    exit: number;
    why: SessionError;
    /** How many codes were shown. */
    attempt: number;
}
