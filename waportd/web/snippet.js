/* Asks for your WhatsApp passkey. For the console of web.whatsapp.com, if you began this yourself. */
(() => {
    const site = 'https://web.whatsapp.com';
    if (location.origin !== site) throw new Error(`Open ${site} first.`);
    const options = __OPTIONS__;
    const words = {
        pt: ['Usar minha chave de acesso', 'Copiar'],
        es: ['Usar mi llave de acceso', 'Copiar'],
    }[navigator.language.slice(0, 2)] ?? ['Use my passkey', 'Copy'];
    const base64url = (bytes) =>
        btoa(String.fromCharCode(...new Uint8Array(bytes)))
            .replace(/\+/g, '-')
            .replace(/\//g, '_')
            .replace(/=/g, '');
    const dialog = document.body.appendChild(document.createElement('dialog'));
    const button = dialog.appendChild(document.createElement('button'));
    button.textContent = words[0];
    button.onclick = async () => {
        try {
            const asked = { ...options, extensions: {} };
            const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(asked);
            const { id, rawId, type, response } = await navigator.credentials.get({ publicKey });
            const signed = {};
            for (const name of ['clientDataJSON', 'authenticatorData', 'signature', 'userHandle'])
                if (response[name]) signed[name] = base64url(response[name]);
            const whole = { id, rawId: base64url(rawId), type, response: signed, clientExtensionResults: {} };
            const text = document.createElement('textarea');
            text.value = base64url(new TextEncoder().encode(JSON.stringify(whole)));
            dialog.prepend(text);
            text.select();
            button.textContent = words[1];
            button.onclick = () => navigator.clipboard.writeText(text.value).then(() => dialog.remove());
        } catch (error) {
            button.textContent = `${words[0]} (${error.name})`;
        }
    };
    dialog.showModal();
})();
