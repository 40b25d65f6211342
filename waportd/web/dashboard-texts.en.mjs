/** The words of the dashboard in English. Functions take what is filled in. */

import { dashboardText, fill } from './texts.mjs';

/** How many users, in words. */
const usersOf = (/** @type {string} */ count) => (count === '1' ? '1 user' : `${count} users`);

/** A heading within a sentence: CPU stays as it is. */
const inSentence = (/** @type {string} */ heading) =>
    heading === heading.toUpperCase() ? heading : heading.toLowerCase();

export const words = {
    language: 'en',
    /** What dashboard.html names. */
    page: {
        running: 'Running',
        load: 'Load',
        memory: 'Memory',
        room: 'Room',
        disk: 'On disk',
        signOut: 'Sign out',
        charts: 'Last hours',
        hosts: 'Hosts',
        ofHost: 'Users of which host',
        changes: 'Changes',
        tokens: 'Tokens',
        newUser: 'New user',
        tryNow: 'Try now',
        close: 'Close',
        cancel: 'Cancel',
        search: 'Search users',
        searchHint: 'Search user, port, phone, state',
        filter: 'Filter by state',
        sort: 'Sort by',
        keys: 'Keyboard shortcuts',
        export: 'Export CSV',
        selection: 'Selected users',
        user: 'User',
        loading: 'Asking the daemon…',
    },
    empty: {
        title: 'No users yet',
        text: 'Each user of your web app gets a WhatsApp server with the first call that names them. Let the app make that call, or start here:',
        same: 'The same on the host:',
    },
    signIn: {
        title: 'Sign in',
        text: 'Over the network, this daemon needs a token. Create one on its host.',
        token: 'Token',
        action: 'Sign in',
        kept: 'It is kept until this tab is closed.',
        unknown: 'This token is unknown, or was deleted. Create another one on the host of the daemon.',
        metrics:
            'This token is for metrics only and does not open this page. Use one of scope admin, read, or of one user.',
    },
    create: {
        title: 'New user',
        label: 'Number or name of the user in your web app',
        help: 'Letters, digits and _ . @ -, for example 2 or 2_1. User 1 prefers the first port.',
        action: 'Start server',
        busy: 'Starting…',
        invalid: 'This is not a name that a user can have.',
    },
    keys: {
        title: 'Keyboard shortcuts',
        list: [
            ['/', 'Search users'],
            ['↑ ↓', 'Move between users'],
            ['← →', 'Move between checkbox, user and connect page'],
            ['Home End', 'Go to the first or the last user'],
            ['Enter', 'Open the user'],
            ['Space', 'On a checkbox: select the user'],
            ['Shift Space', 'Select all from the last one on'],
            ['Esc', 'Close what is open'],
            ['?', 'Show this help'],
        ],
    },
    hosts: {
        columns: ['Host', 'State', 'Users', 'Address', 'waportd', 'Action'],
        all: 'All hosts',
        of: (/** @type {string} */ name) => `On ${name}`,
        users: (/** @type {string} */ count, /** @type {string} */ most) => `${count} of ${most}`,
        states: {
            active: 'runs its users',
            draining: 'gives its users to other hosts',
            silent: 'silent: its users go to other hosts',
        },
        answers: (/** @type {string} */ name) =>
            `Host ${name} answers here. The figures at the top of the page are about it.`,
        reading: 'Asking for the hosts…',
        failed: 'The hosts cannot be shown.',
        drain: {
            label: 'Drain',
            ask: (/** @type {string} */ name) => `Give the users of host ${name} to the others?`,
            about: (/** @type {string} */ count) =>
                `Users: ${count}. Each linked session is down for some seconds. ` +
                'The host takes no new users until it is activated.',
        },
        activate: 'Activate',
        stuck: (/** @type {string} */ user, /** @type {string} */ host) =>
            `User ${user} stays on host ${host}:`,
    },
    changes: {
        user: 'User',
        since: 'Since',
        periods: [
            { days: 1, label: 'one day ago' },
            { days: 7, label: '7 days ago' },
            { days: 30, label: '30 days ago' },
            { days: 365, label: 'a year ago' },
        ],
        show: 'Show',
        columns: ['Time', 'Who', 'From', 'Call', 'Answer'],
        socket: 'this host',
        reading: 'Reading the journal…',
        none: 'Nobody changed anything in that time.',
        count: (/** @type {number} */ count, /** @type {number} */ most) =>
            count < most ? `Changes: ${count}, the newest first.` : `The newest ${most} changes.`,
        failed: 'The changes cannot be shown.',
    },
    charts: {
        title: 'Last hours',
        period: 'Time shown',
        periods: [
            { hours: 1, label: '1 hour' },
            { hours: 6, label: '6 hours' },
            { hours: 24, label: '24 hours' },
        ],
        time: 'Time',
        reading: 'Asking the daemon…',
        none: 'The daemon has just started. The first figures come within seconds.',
        since: (/** @type {string} */ time) => `The figures begin at ${time}, when the daemon started.`,
        failed: 'The last hours cannot be shown.',
        table: 'As a table',
        rows: (/** @type {string} */ minutes) =>
            minutes === '1'
                ? 'Every minute.'
                : `Every ${minutes} minutes. Messages and restarts are added up since the row below.`,
        summary: (
            /** @type {string} */ figure,
            /** @type {string} */ now,
            /** @type {string} */ least,
            /** @type {string} */ most,
        ) => `${figure}: now ${now}, least ${least}, most ${most}.`,
        titles: {
            users: 'Users',
            attention: 'Waiting and problems',
            messages: 'Messages, minute by minute',
            memory: 'Memory',
            processor: 'Processors',
            restarts: 'Restarts, minute by minute',
        },
        figures: {
            linked: 'Linked',
            asleep: 'Asleep',
            idle: 'Idle',
            trouble: 'Problems',
            waiting: 'Waiting for a person',
            working: 'In progress',
            delivered: 'Delivered',
            queued: 'Queued',
            undelivered: 'Undelivered',
            servers_memory: 'Memory of servers',
            host_memory: 'Memory of the host',
            servers_cpu: 'CPUs of servers',
            load: 'Load of the host',
            restarts: 'Restarts of servers',
        },
    },
    /** What the caller's token allows, where that is not all. */
    rights: {
        read: 'Read-only: your token shows all users, but no codes, and changes nothing.',
        user: (/** @type {string} */ user) => `Your token is for user ${user} only.`,
    },
    /** The list as a file. */
    csv: { since: 'Since' },
    /** The one user of a token, without a server. */
    absent: {
        title: (/** @type {string} */ user) => `User ${user} has no server yet`,
        text: 'The user gets one with the first call of your web app, or here:',
    },
    /** Many users at once. */
    bulk: {
        select: (/** @type {string} */ user) => `Select user ${user}`,
        shown: 'Select all that are shown',
        selected: (/** @type {string} */ count) => `${count} selected`,
        hidden: (/** @type {string} */ count) =>
            count === '1' ? '1 of them is not shown' : `${count} of them are not shown`,
        all: (/** @type {string} */ count) => `Select all ${count}`,
        clear: 'Clear selection',
        nobody: 'No user is affected',
        type: (/** @type {string} */ count) => `Type ${count} to confirm`,
        mistyped: (/** @type {string} */ count) => `Type the number ${count}, or cancel.`,
        begun: (/** @type {string} */ count) => (count === '1' ? '1 user…' : `${count} users…`),
        progress: (/** @type {string} */ tried, /** @type {string} */ count) => `${tried} of ${count}`,
        waits: (/** @type {string} */ time) =>
            `The daemon limits how much a caller changes in a minute. It continues at ${time}.`,
        stop: 'Stop here',
        stopping: 'Waiting for what has begun…',
        done: (/** @type {string} */ done, /** @type {string} */ count) => `${done} of ${count} done.`,
        failed: (/** @type {string} */ count) => `${count} failed.`,
        left: (/** @type {string} */ count) =>
            count === '1' ? '1 was not tried.' : `${count} were not tried.`,
        retry: 'Retry those',
        resume: 'Continue',
        linked: (/** @type {string} */ count) =>
            count === '1'
                ? '1 of them has a linked phone. It is not notified and lists the device for some time; log out first to unlink it.'
                : `${count} of them have linked phones. ` +
                  'These are not notified and list the device for some time; ' +
                  'log out first to unlink them.',
        /** What is asked, what happens then, and why others are not affected. */
        verbs: {
            start: {
                title: 'Starting servers',
                ask: (/** @type {string} */ count) => `Start the servers of ${usersOf(count)}?`,
                text: () => 'Linked phones connect again without a scan.',
                others: (/** @type {string} */ count, /** @type {string} */ all) =>
                    count === '1' ? `1 of ${all} runs already` : `${count} of ${all} run already`,
            },
            restart: {
                title: 'Restarting servers',
                ask: (/** @type {string} */ count) => `Restart the servers of ${usersOf(count)}?`,
                text: () => 'The logins are kept; requests on their ports wait meanwhile.',
                others: (/** @type {string} */ count, /** @type {string} */ all) =>
                    count === '1' ? `1 of ${all} does not run` : `${count} of ${all} do not run`,
            },
            stop: {
                title: 'Stopping servers',
                ask: (/** @type {string} */ count) => `Stop the servers of ${usersOf(count)}?`,
                text: () =>
                    'Their ports close until they are started again. The logins are kept: no new scan is needed.',
                others: (/** @type {string} */ count, /** @type {string} */ all) =>
                    count === '1'
                        ? `1 of ${all} is stopped already`
                        : `${count} of ${all} are stopped already`,
            },
            logout: {
                title: 'Logging out',
                ask: (/** @type {string} */ count) =>
                    `Unlink the phones and delete the sessions of ${usersOf(count)}?`,
                text: (/** @type {string} */ count) =>
                    count === '1'
                        ? '1 login is lost: the phone is unlinked, and the session is deleted from this host. To continue, somebody has to scan a code again.'
                        : `${count} logins are lost: the phones are unlinked, ` +
                          'and the sessions are deleted from this host. ' +
                          'To continue, somebody has to scan a code with each phone again.',
                others: (/** @type {string} */ count, /** @type {string} */ all) =>
                    count === '1'
                        ? `1 of ${all} has no linked phone`
                        : `${count} of ${all} have no linked phone`,
            },
            delete: {
                title: 'Deleting users',
                ask: (/** @type {string} */ count) =>
                    `Delete ${usersOf(count)}, with their sessions, and free their ports?`,
                text: (/** @type {string} */ count) =>
                    count === '1'
                        ? '1 user is lost: the port, the login, the messages that are kept, and the options. This cannot be undone.'
                        : `${count} users are lost: ` +
                          'their ports, logins, the messages that are kept, and options. ' +
                          'This cannot be undone.',
            },
        },
    },
    tokens: {
        about: 'A token opens this page and the API over the network.',
        scopes: {
            admin: 'all calls',
            user: 'one user only',
            read: 'reading only, no codes',
            metrics: 'metrics only',
        },
        oneUser: (/** @type {string} */ user) => `user ${user} only`,
        own: 'the one of this page',
        created: (/** @type {string} */ time) => `created ${time}`,
        used: (/** @type {string} */ time) => `last used ${time}`,
        unused: 'never used',
        ends: (/** @type {string} */ time) => `expires ${time}`,
        endless: 'does not expire',
        reading: 'Asking the daemon…',
        none: 'There are no tokens.',
        create: {
            title: 'New token',
            name: 'What it is for',
            scope: 'What it allows',
            user: 'User',
            ttl: 'Valid for',
            periods: [
                { days: 0, label: 'always' },
                { days: 1, label: '1 day' },
                { days: 7, label: '7 days' },
                { days: 30, label: '30 days' },
                { days: 365, label: '1 year' },
            ],
            action: 'Create token',
            busy: 'Creating…',
        },
        secret: {
            title: (/** @type {string} */ name) => `The token “${name}”`,
            once: 'Copy it now: it is not shown again.',
            copy: 'Copy',
            copied: 'Copied',
            byHand: 'The browser does not let this page copy. The token is selected: copy it yourself.',
        },
        revoke: {
            label: 'Revoke',
            of: (/** @type {string} */ name) => `Revoke ${name}`,
            ask: (/** @type {string} */ name) => `Revoke the token “${name}”?`,
            text: 'All calls with it are refused from now on.',
            own: 'It is the token of this page: you have to sign in with another one.',
            done: (/** @type {string} */ name) => `The token “${name}” is revoked.`,
        },
        links: {
            label: 'Revoke all connect links',
            ask: 'Revoke all connect links?',
            text: 'People who have opened the connect page by such a link need a new one. Phones that are linked stay linked.',
            done: 'All connect links are revoked.',
        },
    },
    lost: 'The daemon does not answer. What you see may be out of date.',
    unreachable: 'The daemon does not answer.',
    blocked: 'The browser blocked the new tab.',
    unloaded: 'A part of this page did not load. Reload the page.',
    alarm: (/** @type {string} */ time) => `Since ${time}:`,
    host: {
        running: (/** @type {string} */ running, /** @type {string} */ most) => `${running} of ${most}`,
        load: (/** @type {string} */ load, /** @type {string} */ processors) =>
            `${load} on ${processors} CPUs`,
        memory: (/** @type {string} */ used, /** @type {string} */ total) => `${used} of ${total}`,
        noLimit: 'no limit known',
        room: (/** @type {string} */ more) => (more === '1' ? '1 more session' : `${more} more sessions`),
        each: (/** @type {string} */ size) => `at ${size} each`,
        disk: (/** @type {string} */ all, /** @type {string} */ user, /** @type {string} */ largest) =>
            `${all}; the largest: user ${user}, ${largest}`,
    },
    disk: (
        /** @type {string} */ login,
        /** @type {string} */ cache,
        /** @type {string} */ journal,
        /** @type {string} */ snapshots,
    ) => `${login} login, ${cache} cache, ${journal} journal, ${snapshots} snapshots`,
    groups: {
        all: 'All',
        linked: 'Linked',
        waiting: 'Waiting for a person',
        working: 'In progress',
        trouble: 'Problems',
        asleep: 'Asleep',
        idle: 'Idle',
    },
    /** What a user's server does, by its state. */
    states: {
        generating: 'getting a code',
        qr: 'code shown',
        pairing: 'pairing',
        authenticated: 'loading',
        ready: 'linked',
        disconnected: 'reconnecting',
        qr_timeout: 'no scan',
        logged_out: 'logged out',
        passkey_required: 'passkey required',
        error: 'error',
        stopped: 'stopped',
        starting: 'starting',
        running: 'running',
        stopping: 'stopping',
        failed: 'failed',
        crash_loop: 'crash loop',
        unreachable: 'unreachable',
        moving: 'moving',
    },
    /** What the state alone does not say. */
    conditions: {
        not_answering: 'not answering',
        undelivered: 'not delivered',
        passkey_wanted: 'passkey wanted',
        asleep: 'asleep',
    },
    table: {
        title: 'Users',
        columns: {
            user: 'User',
            port: 'Port',
            host: 'Host',
            process: 'Process',
            session: 'Session',
            since: 'Since',
            memory: 'Memory',
            cpu: 'CPU',
            restarts: 'Restarts',
        },
        sortBy: (/** @type {string} */ column) => `Sort by ${inSentence(column)}`,
        connect: 'Connect page',
        connectOf: (/** @type {string} */ user) => `Connect page of ${user}`,
        nothing: 'No user matches.',
        all: 'Show all',
        count: (/** @type {string} */ count, /** @type {string} */ all) => `${count} of ${all} users`,
    },
    panel: {
        since: (/** @type {string} */ age) => `for ${age}`,
        connect: 'Connect page',
        facts: 'Facts',
    },
    /** What can be done to a user: its button, and what is asked before it is done. */
    actions: {
        start: { label: 'Start' },
        restart: {
            label: 'Restart',
            ask: (/** @type {string} */ user) => `Restart user ${user}?`,
            text: 'The server is restarted. The login is kept; requests on its port wait meanwhile.',
        },
        stop: {
            label: 'Stop',
            ask: (/** @type {string} */ user) => `Stop user ${user}?`,
            text: 'The server stops and its port closes until it is started again. The login is kept: no new scan is needed.',
        },
        logout: {
            label: 'Log out',
            ask: (/** @type {string} */ user) => `Log out user ${user}?`,
            text: 'The phone is unlinked and the session is deleted from this host. To continue, somebody has to scan a code again.',
        },
        delete: {
            label: 'Delete',
            ask: (/** @type {string} */ user) => `Delete user ${user}?`,
            text: (/** @type {number} */ port) =>
                `The server is stopped, its session is deleted and port ${port} is free for others. ` +
                'This cannot be undone.',
            linked: 'The phone is not notified and lists the device for some time; log out first to unlink it.',
        },
    },
    /** How a phone is linked from the panel of a user. */
    linking: {
        title: 'Link',
        by: 'A phone is linked by a code to scan, or by its number. A code is secret: show it only to the owner of the account.',
        scan: 'Show the code',
        byPhone: 'Link with phone number',
        hide: 'Hide',
        preparing: 'A code is on its way…',
        elsewhere: 'A code to type was asked for, perhaps in another window. It is shown only there.',
        scanInstead: 'Show the code to scan',
        shown: 'The code is shown. On the phone: WhatsApp, Linked devices, Link a device.',
        typed: 'On the phone: WhatsApp, Linked devices, Link a device, Link with phone number instead.',
        code: 'Code to scan with WhatsApp',
        left: (/** @type {number} */ seconds) =>
            seconds > 0 ? `Valid for ${seconds} s` : 'The next code is on its way…',
        attempt: (/** @type {number} */ attempt, /** @type {number} */ attempts) =>
            `Code ${attempt} of ${attempts}`,
        timeout: 'Nobody used the codes, so none is shown any more.',
        again: 'Show a new code',
        answered: 'The phone has answered. WhatsApp loads the account…',
        trouble: 'There is no code now.',
        retry: 'Try again',
        passkey:
            'WhatsApp wants the passkey of the account. Only its owner can give it, in their own browser: on the connect page.',
        linked: 'A phone is linked.',
        linkedAs: (/** @type {string} */ who) => `Linked: ${who}`,
        phone: {
            label: 'WhatsApp phone number',
            help: 'With country code, for example +1 202 555 0123',
            prefix: '',
            ask: 'Get a code',
            asking: 'Asking WhatsApp…',
            invalid: 'This phone number is incomplete. Start with + and the country code, for example +1.',
            zero: 'Leave out the leading zeros and start with the country code, for example +1.',
        },
        pairing: {
            code: 'Code to type on the phone',
            number: (/** @type {string} */ number) => `Code for ${number}`,
            copy: 'Copy',
            copied: 'Copied',
            left: (/** @type {number} */ minutes, /** @type {number} */ seconds) =>
                `Valid for ${minutes}:${String(seconds).padStart(2, '0')}`,
            other: 'Use another number',
        },
        problems: {
            pairing_refused:
                'WhatsApp gave no code for this number. Check the number and its country code; after several tries wait an hour or scan a code.',
            pairing_limited:
                'Too many codes were requested, and WhatsApp gives none for now. Wait a while, or scan a code.',
            bad_request: 'WhatsApp does not take this number. Check it and its country code.',
            too_many_requests: (/** @type {number} */ seconds) =>
                `Too many codes were asked for. Please wait ${seconds} s.`,
            already_linked: 'A phone is linked already.',
            superseded: 'A code for another number was asked for meanwhile. Ask again.',
            other: 'Could not get a code. Try again, or scan a QR code.',
        },
    },
    /** The link that opens the connect page without a token. */
    connectLink: {
        about: 'Connect link: who has it can link a phone for this user until it ends.',
        valid: 'Valid for',
        times: [
            { seconds: 600, label: '10 minutes' },
            { seconds: 3_600, label: '1 hour' },
            { seconds: 86_400, label: '24 hours' },
        ],
        copy: 'Copy the link',
        copied: 'Copied',
        send: 'Send',
        working: 'Making the link…',
        until: (/** @type {string} */ time) => `The link is valid until ${time}.`,
        byHand: 'The browser does not let this page copy. Copy the link here:',
    },
    /** The options of one user. */
    settings: {
        title: 'Settings',
        of: (/** @type {string} */ user) => `Settings of user ${user}`,
        change: 'Change settings',
        save: 'Save',
        saving: 'Saving…',
        saved: 'Saved.',
        unchanged: 'Nothing has changed.',
        restarts: 'The server restarts when you save this. The login is kept.',
        nextStart: 'The engine changes with the next start of the server.',
        refused: 'This value is not accepted:',
        default: 'As configured',
        kept: 'Its own, which is set and not shown',
        replaced: 'Another one…',
        own: 'A value of its own…',
        autostart: 'Start at boot where a phone is linked',
        /** Of each option: its name, its key in the configuration, words for values, how to write others. */
        options: {
            webhook_url: {
                label: 'Webhook address',
                key: 'instances.webhook_url',
                values: { none: 'Nowhere' },
                help: 'http or https, without user name and password',
            },
            webhook_secret: {
                label: 'Webhook secret',
                key: 'instances.webhook_secret',
                values: { none: 'No signature' },
                help: 'whsec_ and the base64 of 24 to 64 random bytes',
            },
            webhook_events: {
                label: 'Events for the webhook',
                key: 'instances.webhook_events',
                values: {},
                help: '',
            },
            ignore: {
                label: 'Chats that are ignored',
                key: 'instances.ignore',
                values: {},
                help: '',
            },
            default_country: {
                label: 'Country of numbers without code',
                key: 'instances.default_country',
                values: { none: 'None' },
                help: 'The calling code without +, for example 55',
            },
            send_rate: {
                label: 'Messages a minute',
                key: 'instances.send_rate',
                values: { none: 'No limit' },
                help: 'The most that are sent',
            },
            memory_max: {
                label: 'Memory limit',
                key: 'limits.memory_max',
                values: { none: 'No limit' },
                help: 'For example 512M or 1G',
            },
            engine: {
                label: 'Engine',
                key: 'instances.engine',
                values: { bundled: 'The bundled one' },
                help: 'An installed version: waportctl engine list',
            },
            proxy: {
                label: 'Proxy',
                key: 'instances.proxy',
                values: { auto: 'That of the environment', none: 'No proxy' },
                help: 'http://name:password@host:3128, or socks5://host:1080',
            },
        },
        events: {
            message: 'Messages received',
            'message.sent': 'Messages sent',
            'message.ack': 'Status of sent messages',
            'message.edited': 'Edited messages',
            'message.revoked': 'Deleted messages',
            'message.reaction': 'Reactions',
            session: 'State of the session',
            call: 'Calls',
        },
        ignored: {
            groups: 'Groups',
            channels: 'Channels',
            status: 'Status posts',
            broadcasts: 'Broadcast lists',
        },
        nothing: 'nothing',
        isSet: 'its own',
        on: 'on',
        off: 'off',
    },
    /** A user gets another port. */
    move: {
        open: 'Move to another port',
        title: (/** @type {string} */ user) => `Move user ${user} to another port?`,
        about: (/** @type {number} */ port) =>
            `Login, settings and messages move along, and port ${port} is free for others. ` +
            'A server that runs is down for some seconds and needs no new scan. Web apps must call the new port.',
        label: 'New port',
        help: 'Leave it empty for the port that a new user with this name would get.',
        action: 'Move',
        working: 'Moving…',
        invalid: 'A port is a number from 1 to 65535.',
        done: (/** @type {number} */ port) => `Moved to port ${port}.`,
    },
    /** In a fleet. */
    hostMove: {
        open: 'Move to another host',
        title: (/** @type {string} */ user) => `Move user ${user} to another host?`,
        about: (/** @type {string} */ host) =>
            `The user is on host ${host}. Login, settings and messages move along; the port stays. ` +
            'A session that runs is down for some seconds and needs no new scan.',
        label: 'New host',
        action: 'Move',
        working: 'Moving…',
        none: 'No other host takes users now.',
        done: (/** @type {string} */ host) =>
            `On the way to host ${host}. If the user does not go, “Hosts” says why.`,
    },
    /** What the journal has about a user's server. */
    log: {
        title: 'Log',
        level: 'Lines',
        levels: { all: 'All lines', warning: 'Warnings and errors', error: 'Errors' },
        search: 'Search the log',
        searchHelp: 'Enter goes to the next hit, Shift+Enter to the one before',
        hits: (/** @type {string} */ count) =>
            count === '0' ? 'No hit' : count === '1' ? '1 hit' : `${count} hits`,
        hitOf: (/** @type {string} */ one, /** @type {string} */ all) => `Hit ${one} of ${all}`,
        news: (/** @type {string} */ count) =>
            count === '0' ? 'To the newest line' : count === '1' ? '1 new line' : `${count} new lines`,
        download: 'Download',
        downloading: 'Reading…',
        reading: 'Reading the journal…',
        silent: 'Nothing was said yet.',
        silentOfLevel: 'There are no such lines.',
    },
    facts: {
        phone: 'Phone',
        linkedSince: 'Linked since',
        connected: 'Connected since',
        linked: 'linked',
        notLinked: 'none linked',
        port: 'Port',
        unit: 'Unit',
        host: 'Host',
        build: 'WhatsApp Web',
        pinned: (/** @type {string} */ build, /** @type {string} */ pinned) =>
            `${build} (pinned page ${pinned})`,
        library: 'Library',
        missing: 'Changed by WhatsApp',
        process: 'Process',
        restarts: 'Restarts',
        memory: 'Memory',
        disk: 'Disk',
        copied: 'Login copied',
        replaced: 'Login replaced',
        byCopy: (/** @type {string} */ time) => `by a copy, ${time}`,
        cpu: 'CPU',
        created: 'Created',
        engine: 'Next engine',
        ownEngine: (/** @type {string} */ engine) => `${engine} (its own)`,
        messages: 'Messages',
        delivered: (/** @type {string} */ count) => `${count} delivered`,
        waiting: (/** @type {string} */ count) => `${count} wait`,
        waitingSince: (/** @type {string} */ count, /** @type {string} */ time) =>
            `${count} wait since ${time}`,
        undelivered: (/** @type {string} */ count) => `${count} undelivered`,
        lost: (/** @type {string} */ count) => `${count} lost`,
        lastMessage: 'Last message',
        app: 'Web app',
        autostart: 'Autostart',
    },
};

fill(dashboardText, words);
