/** The words of the connect page in English. Functions take what is filled in. */

import { connectText, fill } from './texts.mjs';

export const words = {
    stations: ['Prepare', 'Scan', 'Connect', 'Linked'],
    stationByPhone: 'Code',
    scan: {
        steps: [
            'Open <WhatsApp> on your phone',
            'Tap <Menu ⋮> on Android, or <Settings> on iPhone',
            'Tap <Linked devices>, then <Link a device>',
            'Point your phone at this screen',
        ],
        code: 'Code to scan with WhatsApp',
        left: (/** @type {number} */ seconds) =>
            seconds > 0 ? `Valid for ${seconds} s` : 'The next code is on its way…',
        attempt: (/** @type {number} */ attempt, /** @type {number} */ attempts) =>
            `Code ${attempt} of ${attempts}`,
        secret: 'Scan it only with the phone whose WhatsApp you want to link. Do not send this code to anyone.',
        byPhone: 'Link with phone number instead',
    },
    phone: {
        label: 'Your WhatsApp phone number',
        help: 'With country code, for example +1\u00a0202\u00a0555\u00a00123',
        prefix: '',
        ask: 'Get a code',
        asking: 'Asking WhatsApp…',
        invalid: 'This phone number is incomplete. Start with + and the country code, for example +1.',
        zero: 'Leave out the leading zeros and start with the country code, for example +1.',
        byScan: 'Scan a QR code instead',
        replaces: 'A code was requested already. A code for another number takes its place.',
    },
    pairing: {
        steps: [
            'Open <WhatsApp> on your phone. Tap the notice “Enter code to link new device” if one appears; else:',
            'Tap <Menu ⋮> or <Settings>, then <Linked devices> and <Link a device>',
            'Tap <Link with phone number instead>',
            'Type this code',
        ],
        code: 'Code to type on your phone',
        number: (/** @type {string} */ number) => `Code for ${number}`,
        copy: 'Copy',
        copied: 'Copied',
        left: (/** @type {number} */ minutes, /** @type {number} */ seconds) =>
            `Valid for ${minutes}:${String(seconds).padStart(2, '0')}`,
        other: 'Use another number',
    },
    elsewhere: {
        scan: 'Show a QR code here',
        number: 'Get a code here',
        note: 'A QR code ends the code that was requested, and so does a code for another number. For the same number you get the same code.',
    },
    passkey: {
        ahead: {
            elsewhere: 'You may need a computer for the last step.',
            helper: 'If WhatsApp asks for your passkey at the end, this browser is ready.',
            install: 'Using a passkey? Prepare this browser first.',
        },
        meaning: (/** @type {string} */ host) =>
            `After this, ${host} can read and send messages of this account, until you remove it ` +
            'on the phone under Linked devices. Stop if you did not start this yourself.',
        action: 'Use my passkey',
        signing: 'Continue in the new tab…',
        sending: 'Sending…',
        left: (/** @type {number} */ minutes) =>
            minutes > 1
                ? `${minutes} minutes left`
                : minutes === 1
                  ? 'The last minute'
                  : 'The time is up. WhatsApp asks once more…',
        repeated: 'WhatsApp asks again. Use your passkey once more.',
        elsewhere:
            'This step needs a computer. Open this page there, with your phone beside it and Bluetooth on.',
        framed: 'For your safety, this step has a tab of its own.',
        openTab: 'Open in a new tab',
        none: 'This browser has no extension for this step. Open this page in Chrome on a computer, or do it by hand:',
        share: 'Send the link',
        copyLink: 'Copy the link',
        another: 'Copy the link for another computer',
        stop: 'Stop',
        startOver: 'Start over with a new code',
        again: 'Try again',
        code: 'Code to compare with your phone',
        same: 'Yes, the same',
        different: 'No, stop',
        install: {
            title: 'This needs a small browser extension, once.',
            get: 'Get the extension',
            other: (/** @type {string} */ host) => `Another extension, from ${host}`,
            unpack: [
                'Unpack the file',
                'Open <chrome://extensions> and switch on <Developer mode>',
                'Press <Load unpacked> and choose the folder',
            ],
            unpackFirefox: [
                'Open <about:debugging> and choose <This Firefox>',
                'Press <Load Temporary Add-on…> and choose the file',
            ],
            noticed: 'Then come back here: this page notices it. You can remove it afterwards.',
            firefox: 'Then press its button in the toolbar, here on this page. You can remove it afterwards.',
        },
        manual: {
            title: 'Without an extension',
            warning:
                'Never paste code that somebody sent you. This script is from this page and asks for your passkey only.',
            steps: [
                'Open <web.whatsapp.com> in a new tab, press <F12> and choose <Console>',
                'Paste the script and press Enter. If the browser does not let you, type <allow pasting> first',
                'Press <Use my passkey> there',
                'Copy the result and paste it below',
            ],
            script: 'Script to copy',
            copy: 'Copy the script',
            result: 'Result',
            send: 'Send',
            broken: 'This result is incomplete. Copy it again, from its first letter to its last.',
        },
        unsigned: {
            busy: 'The extension is still busy with another request. Close its tab, then try again.',
            refused: 'You said no in the extension. Nothing was signed.',
            closed: 'The tab was closed before anything was signed. You can try again.',
            not_allowed:
                'The browser got no passkey: it was cancelled, took too long, or is on another device. If it is on your phone, choose the phone in the browser’s window.',
            bad_request: 'The extension does not understand this request. Update it, then try again.',
            failed: 'The extension could not sign. Try again.',
        },
        problems: {
            passkey_malformed: 'This passkey answer is incomplete. Try again.',
            passkey_wrong_origin: 'This was not signed on web.whatsapp.com. Try again there.',
            passkey_wrong_challenge: 'This answers an older request. Use your passkey once more.',
            passkey_wrong_type: 'This is not a sign-in with a passkey. Try again.',
            passkey_wrong_site: 'This passkey belongs to another site. Choose the one for WhatsApp.',
            passkey_not_verified:
                'The passkey was used without fingerprint, face or PIN. WhatsApp wants one of them. Try again.',
            passkey_not_allowed: 'This passkey does not belong to this account. Choose another one.',
            too_large: 'This is too long for a passkey answer. Copy it again.',
            too_many_requests: (/** @type {number} */ seconds) => `Too many tries. Please wait ${seconds} s.`,
            no_passkey_request: 'WhatsApp is no longer waiting for a passkey.',
            passkey_given: 'A passkey was given already. Wait for your phone.',
            no_passkey_code: 'There is nothing left to compare.',
            passkey_code_changed: 'The code has changed. Compare once more.',
            unreachable: 'The server does not answer. Try again in a moment.',
            other: 'This could not be sent. Try again.',
        },
    },
    secure: 'You can disconnect at any time on your phone.',
    linkedAs: (/** @type {string} */ name) => `Linked as ${name}`,
    progress: (/** @type {number} */ percent) => `${percent} %`,
    retry: (/** @type {number} */ seconds) =>
        seconds > 0 ? `Trying again in ${seconds} s` : 'Trying again…',
    details: 'Details for the administrator',
    lost: 'The connection to the server is lost. Reconnecting…',
    tryNow: 'Try now',
    replaced: 'The code that was shown here no longer works. Another window may have requested a new one.',
    back: 'Back to the app',
    views: {
        preparing: {
            title: 'Getting your code ready',
            text: 'WhatsApp is being started for you. This takes a few seconds.',
        },
        slow: { text: 'This is taking longer than usual. Please wait.' },
        stopping: { title: 'One moment', text: 'The session is being stopped.' },
        code: { title: 'Link your WhatsApp' },
        phone: {
            title: 'Link with your phone number',
            text: 'You get a code of eight characters to type on your phone.',
        },
        pairing: { title: 'Type this code on your phone' },
        elsewhere: {
            title: 'A code for a phone number was requested',
            text: 'It is shown in the window that requested it. Type it on your phone; this page shows what happens.',
        },
        linking: {
            title: 'Your phone has answered',
            text: 'WhatsApp is being connected. Keep the phone online.',
        },
        reconnecting: {
            title: 'Reconnecting to WhatsApp',
            text: 'The phone is still linked. It reconnects automatically.',
        },
        linked: { title: 'WhatsApp is linked', text: 'You can close this page.' },
        timeout: {
            title: 'No code was used',
            text: 'For your safety, codes are shown for a short time only.',
            action: 'Show a new code',
        },
        'passkey-opening': {
            title: 'One more step: your passkey',
            text: 'WhatsApp wants to see the passkey of your account. One moment…',
        },
        passkey: {
            title: 'One more step: your passkey',
            text: 'WhatsApp wants you to confirm with the passkey of your account. Only you can do that, in your own browser.',
        },
        'passkey-given': {
            title: 'Passkey received',
            text: 'Keep WhatsApp open on your phone. If it asks you something, answer there.',
        },
        'passkey-code': {
            title: 'Does your phone show this code?',
            text: 'Compare all eight letters.',
        },
        'passkey-failed': {
            title: 'That did not work',
            text: 'WhatsApp did not get a passkey that it accepts. It will ask again in a moment, or you can start over with a new code.',
        },
        'passkey-stuck': {
            title: 'WhatsApp wants your passkey',
            text: 'This step cannot be done right now. Start over with a new code.',
            action: 'Show a new code',
        },
        'logged-out': {
            title: 'The phone was unlinked',
            text: 'The session was deleted here. To use WhatsApp here again, link the phone again.',
            action: 'Link again',
        },
        idle: {
            title: 'Not running',
            text: 'Nothing is linked yet, and no code is shown.',
            action: 'Show a code',
        },
        stopped: {
            title: 'Stopped by the administrator',
            text: 'Ask the administrator whether it may be started again, or start it now.',
            action: 'Start again',
        },
        deleted: {
            title: 'This session was deleted',
            text: 'Its login is gone. You can set it up again.',
            action: 'Set up again',
        },
        busy: {
            title: 'The service is full right now',
            text: 'There is no room for another session. This page will try again automatically.',
            action: 'Try now',
        },
        failed: {
            title: 'WhatsApp could not be started',
            text: 'Something on the server must be fixed first. The administrator can find the reason below.',
            action: 'Try again',
        },
        error: {
            title: 'Something went wrong',
            text: 'The administrator can find the reason below.',
            action: 'Try again',
        },
        expired: {
            title: 'This link has expired',
            text: 'For your safety, links to this page are valid for a short time. Open the page again where this link came from.',
        },
        'expired-linking': {
            title: 'This link has expired',
            text: 'Your phone had answered already. If it shows the new device under Linked devices, you are done. Otherwise open this page again where the link came from.',
        },
        unloaded: {
            title: 'A part of this page did not load',
            text: 'Check your connection, then load the page again.',
            action: 'Load again',
        },
        refused: {
            title: 'This link is no longer valid',
            text: 'Links to this page are valid for a short time and for one user. Go back to where you came from and open it again.',
        },
        'bad-address': {
            title: 'This link is incomplete',
            text: 'It does not say whose WhatsApp to link. Go back to where you came from and open it again.',
        },
    },
    causes: {
        upstream_unreachable: {
            title: 'WhatsApp cannot be reached',
            text: 'The server has no connection to WhatsApp at the moment. It keeps trying; you can try now, too.',
        },
        upstream_silent: {
            title: 'WhatsApp does not answer',
            text: 'WhatsApp gave neither a code nor a login in time. Try again in a moment.',
        },
        upstream_changed: {
            title: 'WhatsApp has changed',
            text: 'The server does not know the new version of WhatsApp yet. The administrator has to update it.',
        },
        passkey_button_missing: {
            title: 'WhatsApp has changed',
            text: 'WhatsApp wants your passkey, but the server cannot open that step yet. The administrator has to update it.',
        },
        passkey_failed: {
            title: 'WhatsApp did not accept the passkey',
            text: 'Several tries did not work. Start over with a new code.',
        },
        never_ready: {
            title: 'WhatsApp did not become ready',
            text: 'The login was accepted, but WhatsApp did not finish loading. It will be retried automatically.',
        },
        auth_failure: {
            title: 'WhatsApp refused the stored login',
            text: 'The administrator must unlink the phone here. Then link it again.',
        },
        not_answering: {
            title: 'The session does not answer',
            text: 'It will be restarted automatically within a minute.',
        },
        out_of_memory: {
            title: 'The session ran out of memory',
            text: 'It restarts automatically. If this happens often, inform the administrator.',
        },
        disk_full: {
            title: 'The disk of the server is full',
            text: 'The administrator must free some space first.',
        },
    },
    pairingProblems: {
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
};

fill(connectText, words);
