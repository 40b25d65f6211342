/** What the host has, in the head of the dashboard, and the alarm below it. */

import { byId, say, sayWithCode } from './dom.mjs';
import { bytes, diskText, figure, moment } from './format.mjs';
import { diskOf } from './states.mjs';
import { dashboardText as text } from './texts.mjs';

/** Say how much of the machine is used, and how many more sessions fit. */
export function showHost(
    /** @type {import('./types').Host} */ {
        memory,
        load,
        cpus,
        running,
        max_running,
        memory_per_session,
        more_sessions,
    },
) {
    const used = memory.total - memory.available;
    say(
        byId('host-running'),
        max_running ? text.host.running(figure(running), figure(max_running)) : figure(running),
    );
    say(byId('host-load'), text.host.load(figure(load[0], 1), figure(cpus)));
    say(byId('host-memory'), text.host.memory(bytes(used), bytes(memory.total)));
    byId('host-meter').style.width = `${(100 * used) / memory.total}%`;
    say(
        byId('host-room'),
        more_sessions === null ? text.host.noLimit : text.host.room(figure(more_sessions)),
    );
    byId('host-room').title = memory_per_session ? text.host.each(bytes(memory_per_session)) : '';
    byId('host-room').classList.toggle('none', more_sessions === 0);
}

/** Whether there is something to show. */
export const hasHost = () => byId('host-room').textContent !== '';

/** Say what the sessions keep on disk, and whose is the largest. */
export function showDisk(/** @type {Map<string, import('./types').User>} */ users) {
    const disk = diskOf(users.values());
    const place = byId('host-disk');
    place.hidden = disk === null;
    if (disk === null) return;
    const { largest } = disk;
    say(place.lastElementChild, bytes(disk.login + disk.cache + disk.journal));
    place.title = text.host.disk(diskText(disk), largest.user, diskText(largest.storage ?? disk));
}

/** Say that many users fail in the same way. */
export function showAlarm(/** @type {import('./types').Alarm|null} */ alarm) {
    byId('alarm').hidden = alarm === null;
    if (alarm === null) return;
    const build = alarm.build === null ? '' : ` (WhatsApp Web ${alarm.build})`;
    say(byId('alarm-since'), text.alarm(moment(alarm.since)));
    sayWithCode(byId('alarm-text'), `${alarm.message}${build}. ${alarm.hint}.`);
}
