/** What browsers give the extension, and Chromium its pages, as far as it is used here. */

interface ChromeEvent<Args extends unknown[]> {
    addListener(listener: (...args: Args) => unknown): void;
}

interface ChromeTab {
    id: number;
    active: boolean;
}

interface ChromeSender {
    frameId?: number;
    origin?: string;
    tab?: ChromeTab;
}

interface ChromePort {
    sender: ChromeSender;
    postMessage(message: unknown): void;
    disconnect(): void;
    /** Messages come from another program: each is checked. */
    onMessage: ChromeEvent<[message: any]>;
    onDisconnect: ChromeEvent<[port: ChromePort]>;
}

type ChromeMessages = ChromeEvent<[message: any, sender: ChromeSender, answer: (response: unknown) => void]>;

// eslint-disable-next-line no-var
declare var chrome: {
    /** Missing where there is no button: the two browsers have manifests of their own. */
    action?: { onClicked: ChromeEvent<[tab: ChromeTab]> };
    i18n: { getMessage(key: string): string; getUILanguage(): string };
    runtime: {
        lastError?: unknown;
        connect(options: { name: string }): ChromePort;
        connect(id: string, options: { name: string }): ChromePort;
        sendMessage(message: unknown): Promise<any>;
        sendMessage(id: string, message: unknown, answer: (response: any) => void): void;
        onMessage: ChromeMessages;
        onMessageExternal: ChromeMessages;
        onConnect: ChromeEvent<[port: ChromePort]>;
        onConnectExternal: ChromeEvent<[port: ChromePort]>;
    };
    scripting: {
        executeScript(how: {
            target: { tabId: number };
            world?: string;
            injectImmediately?: boolean;
            func?: (...args: any[]) => unknown;
            args?: unknown[];
            files?: string[];
        }): Promise<{ result?: any }[]>;
    };
    tabs: {
        get(id: number): Promise<ChromeTab>;
        create(tab: { url: string; openerTabId: number }): Promise<ChromeTab>;
        remove(id: number): Promise<void>;
        update(id: number, tab: { active: boolean }): Promise<ChromeTab>;
        onRemoved: ChromeEvent<[id: number]>;
    };
};
