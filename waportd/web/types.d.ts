/**
 * What the pages' modules exchange, and the API's documents as far as the pages read them: docs/api.md
 * has all of these. Times are ISO 8601, sizes are bytes. Nothing of it is served.
 */

import type { Problem } from './api.mjs';
import type { words as connectWords } from './connect-texts.en.mjs';
import type { words as dashboardWords } from './dashboard-texts.en.mjs';

/** The words of each page; other languages have the same. */
export type Texts = typeof connectWords;
export type DashboardTexts = typeof dashboardWords;

/** Words for what went wrong, by its code; some take after how many seconds to try again. */
export type ProblemWords = Record<string, string | ((seconds: number) => string)>;

export interface ViewWords {
    title?: string;
    text?: string;
    action?: string;
}

/** What is shown of a state: in one of few groups, in words. */
export type Group = 'linked' | 'waiting' | 'working' | 'trouble' | 'asleep' | 'idle';

export interface Condition {
    since: string | null;
    message: string | null;
    hint: string | null;
}

export interface Sizes {
    login: number;
    cache: number;
    journal: number;
    snapshots: number;
}

export interface Upstream {
    build: string | null;
    library: string | null;
    engine: string;
    pinned: string | null;
    missing: { feature: string }[];
}

export interface Webhook {
    delivered: number;
    queued: number;
    undelivered: number;
    dropped: number;
    error: string | null;
    oldest_at: string | null;
}

export interface Session extends Condition {
    state: string;
    cause: string | null;
    answering: boolean;
    name: string | null;
    phone_number: string | null;
    /** How many of the chats are loaded after a scan, in percent. */
    progress?: number | null;
    upstream?: Upstream | null;
    webhook?: Webhook | null;
    last_message_at?: string | null;
}

export interface User {
    user: string;
    port: number;
    /** What was last asked for. */
    desired: string;
    unit: string;
    /** The host of the fleet that has the user; null where there is no fleet. */
    host: string | null;
    note: string | null;
    process: Condition & { state: string; pid: number | null; restarts: number };
    session: Session | null;
    /** What matters of it now. */
    summary: Condition & { state: string; group: Group; cause: string | null };
    linked: boolean;
    linked_at: string | null;
    autostart: boolean;
    created_at: string;
    engine: string;
    own_engine: boolean;
    own_webhook: boolean;
    own_webhook_secret: boolean;
    webhook_events: string[] | null;
    ignore: string[] | null;
    default_country: string | null;
    send_rate: number | null;
    proxy: string;
    own_proxy: boolean;
    storage: (Sizes & { measured_at: string; snapshot_at: string | null; restored_at: string | null }) | null;
    memory_max: number | null;
    /** The dashboard's own figures: bytes, and a share of a processor. */
    memory: number | null;
    cpu: number | null;
}

export interface PasskeyOptions {
    challenge: string;
    [name: string]: unknown;
}

export interface Passkey {
    stage: string;
    options: PasskeyOptions | null;
    code: string | null;
    expires_at: string | null;
}

/** A code that a person types on the phone. */
export interface PairingCode {
    code: string;
    expires_at: string;
}

/** A pairing code, and the phone number that it is for. */
export interface AskedCode extends PairingCode {
    number: string;
}

/** All that the connect page knows, from which its view follows. */
export interface ConnectFacts {
    /** The document of the user. */
    user: User | null;
    /** The document of the code. */
    qr: CodeDocument | null;
    /** Why the last call of the page failed. */
    problem: Problem | null;
    /** The code that this page asked for, and when the session began to wait for it; null until it is known. */
    pairing: (AskedCode & { since: string | null }) | null;
    /** The visitor prefers to type a code on the phone. */
    byPhone: boolean;
    /** The visitor wants a code here, even if one was asked for elsewhere. */
    numberHere: boolean;
    /** The code that this page asked for gave way to another one. */
    codeReplaced: boolean;
    deleted: boolean;
}

/** The document of a code to scan, and of what takes its place. */
export interface CodeDocument {
    status: string;
    qr: string | null;
    expires_at: string;
    attempt: number;
    attempts: number;
    passkey?: Passkey | null;
    message: string | null;
    cause: string | null;
    hint: string | null;
}

export interface Host {
    memory: { total: number; available: number };
    load: number[];
    cpus: number;
    running: number;
    max_running: number | null;
    memory_per_session: number | null;
    more_sessions: number | null;
}

/** A host of the fleet. */
export interface FleetHost {
    name: string;
    address: string;
    state: string;
    alive: boolean;
    users: number;
    capacity: number;
    version: string;
    /** The users who were to leave it and have not. */
    stuck: { user: string; message: string }[];
}

/** Who calls, and what that allows. */
export interface Caller {
    scope: string;
    user: string | null;
    token: string | null;
    name: string | null;
}

export interface Alarm {
    since: string;
    message: string;
    hint: string;
    build: string | null;
}

/** A line of the list of changes. */
export interface Change {
    time: string;
    caller: string | null;
    uid: string | null;
    token: string | null;
    address: string | null;
    action: string | null;
    status: string | null;
}

/** A line of the journal. */
export interface LogLine {
    time: string;
    priority: number;
    source: string;
    message: string;
}

// ---- the connect page -------------------------------------------------------------------------------------

/** What the connect page shows: the words of its kind, and what the daemon said of it. */
export interface View {
    kind: string;
    station: number | null;
    cause: string | null;
    message: string | null;
    hint: string | null;
}

/** An extension that may sign. */
export interface Helper {
    id: string;
    url: string;
    firefox?: string | null;
    own: boolean;
}

/** What an extension answers; `assertion` is a credential, as its `toJSON()` writes it. */
export interface Signed {
    ok: boolean;
    assertion?: object | null;
    error?: string;
}

/** What is said of an action, before it is done where that needs a question. */
export interface ActionWords {
    label: string;
    ask?: (user: string) => string;
    text?: string | ((port: number) => string);
    /** Of a user whose phone is linked, too. */
    linked?: string;
}

/** What is said of an option of a user: where its default stands, and the words for some of its values. */
export interface OptionWords {
    label: string;
    key: string;
    values: Record<string, string>;
    help: string;
}

/** How two users are ordered. */
export type Order = (a: User, b: User) => number;

// ---- the dashboard ----------------------------------------------------------------------------------------

/** What a row of the table of users does. */
export interface RowActions {
    onSelect(user: string, on: boolean, range: boolean): void;
    onOpen(user: string): void;
    onConnect(event: Event, user: string): void;
    connectAddress(user: string): URL;
}

/** What the panel of one user does. */
export interface PanelActions extends Pick<RowActions, 'onConnect' | 'connectAddress'> {
    /** Resolves with null where it was done, or not wanted after all; `busy` is called around it. */
    onAction(action: string, user: string, busy: (now: boolean) => void): Promise<Problem | null>;
    onChanges(user: string): void;
    onClose(): void;
}

/** What the table does. */
export interface TableActions extends RowActions {
    /** The column or its direction is another. */
    onSort(): void;
    /** Select all that are shown, or none of them. */
    onSelectAll(on: boolean): void;
    /** Remove the filter: show all. */
    onClear(): void;
}

// ---- the last hours ---------------------------------------------------------------------------------------

/** One entry for each sample; null where nothing was measured. */
export type Column = (number | null)[];

export type Figure = keyof DashboardTexts['charts']['figures'];

export type History = Record<Figure, Column> & {
    since: string;
    step_s: number;
    cpus: number;
    memory_total: number;
    times: string[];
};

/** What a chart shows. */
export interface ChartOf {
    name: keyof DashboardTexts['charts']['titles'];
    lines: { name: Figure; kind: string }[];
    write(value: number): string;
    /** Whether there are whole numbers only. */
    whole: boolean;
    /** What the chart goes up to, where that does not follow from its lines. */
    most?(history: History): number;
}

/** What can be done to many users at once. */
export type BulkAction = 'start' | 'restart' | 'stop' | 'logout' | 'delete';

/** A token of the API, without its secret. */
export interface Token {
    id: string;
    name: string;
    scope: string;
    created_at: string;
    last_used_at: string | null;
    expires_at: string | null;
}
