/** What is drawn: only what a program could look for. */

import { me } from './ids.mjs';
import { BackendEventBus, Conn, Socket, codeText } from './session.mjs';

const screen = document.getElementById('screen');
const code = document.createElement('div');
code.dataset.testid = 'link-device-qr-code';
const refresh = document.createElement('button');
refresh.dataset.testid = 'link_device_qr_expired_refresh_button';
refresh.textContent = '↻';
refresh.addEventListener('click', () => BackendEventBus.triggerRefreshQR());

function draw() {
    const { state } = Socket;
    screen.textContent = `Stand-in for WhatsApp Web: ${state}`;
    const waits = !me.phone && Conn.ref && ['UNPAIRED', 'UNPAIRED_IDLE'].includes(state);
    if (!waits) {
        code.remove();
        refresh.remove();
        return;
    }
    code.dataset.ref = codeText();
    document.body.append(code);
    if (state === 'UNPAIRED_IDLE') document.body.append(refresh);
    else refresh.remove();
}

export function drawAlways() {
    Socket.listen('change', draw);
    Conn.listen('change:ref', draw);
}
