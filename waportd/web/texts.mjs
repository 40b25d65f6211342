/** The words of the connect page and of the list of changes. Functions take what is filled in. */

const en = {
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
        help: 'With country code, for example +1 202 555 0123',
        prefix: '',
        ask: 'Get a code',
        asking: 'Asking WhatsApp…',
        invalid: 'This phone number is incomplete. Start with + and the country code, for example +1.',
        zero: 'Leave out the leading zeros and start with the country code, for example +1.',
        byScan: 'Scan a QR code instead',
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
    changes: {
        title: 'Who changed what',
        user: 'User',
        since: 'Since',
        periods: [
            { days: 1, label: 'one day ago' },
            { days: 7, label: '7 days ago' },
            { days: 30, label: '30 days ago' },
            { days: 365, label: 'a year ago' },
        ],
        show: 'Show',
        close: 'Close',
        columns: ['Time', 'Who', 'From', 'Call', 'Answer'],
        socket: 'this host',
        reading: 'Reading the journal…',
        none: 'Nobody changed anything in that time.',
        count: (/** @type {number} */ count, /** @type {number} */ most) =>
            count < most ? `Changes: ${count}, the newest first.` : `The newest ${most} changes.`,
        failed: 'The changes cannot be shown.',
    },
};

const pt = {
    stations: ['Preparar', 'Escanear', 'Conectar', 'Pronto'],
    stationByPhone: 'Código',
    scan: {
        steps: [
            'Abra o <WhatsApp> no seu celular',
            'Toque em <Mais opções ⋮> no Android ou em <Configurações> no iPhone',
            'Toque em <Dispositivos conectados> e, em seguida, em <Conectar dispositivo>',
            'Aponte o celular para esta tela',
        ],
        code: 'Código para escanear com o WhatsApp',
        left: (/** @type {number} */ seconds) =>
            seconds > 0 ? `Válido por ${seconds} s` : 'O próximo código está a caminho…',
        attempt: (/** @type {number} */ attempt, /** @type {number} */ attempts) =>
            `Código ${attempt} de ${attempts}`,
        secret: 'Escaneie só com o celular do WhatsApp que você quer conectar. Não envie este código a ninguém.',
        byPhone: 'Conectar com número de telefone',
    },
    phone: {
        label: 'Seu número de telefone do WhatsApp',
        help: 'Com código do país e DDD, por exemplo +55 11 99999-8888',
        prefix: '+55 ',
        ask: 'Receber código',
        asking: 'Pedindo ao WhatsApp…',
        invalid:
            'Este número não está completo. Digite o DDD e o número, ou comece com + e o código do país.',
        zero: 'Sem zeros no início: comece com o código do país, por exemplo +55.',
        byScan: 'Escanear um QR code',
    },
    pairing: {
        steps: [
            'Abra o <WhatsApp> no seu celular. Toque no aviso “Insira o código para conectar um novo dispositivo”, se aparecer; senão:',
            'Toque em <Mais opções ⋮> ou <Configurações>, em <Dispositivos conectados> e em <Conectar dispositivo>',
            'Toque em <Conectar com número de telefone>',
            'Digite este código',
        ],
        code: 'Código para digitar no celular',
        number: (/** @type {string} */ number) => `Código para ${number}`,
        copy: 'Copiar',
        copied: 'Copiado',
        left: (/** @type {number} */ minutes, /** @type {number} */ seconds) =>
            `Válido por ${minutes}:${String(seconds).padStart(2, '0')}`,
        other: 'Usar outro número',
    },
    passkey: {
        ahead: {
            elsewhere: 'Talvez você precise de um computador no último passo.',
            helper: 'Se o WhatsApp pedir sua chave de acesso no final, este navegador está pronto.',
            install: 'Usa chave de acesso? Prepare antes este navegador.',
        },
        meaning: (/** @type {string} */ host) =>
            `Depois disso, ${host} poderá ler e enviar mensagens desta conta até você removê-lo ` +
            'no celular, em Dispositivos conectados. Pare se não foi você quem começou.',
        action: 'Usar minha chave de acesso',
        signing: 'Continue na nova aba…',
        sending: 'Enviando…',
        left: (/** @type {number} */ minutes) =>
            minutes > 1
                ? `Restam ${minutes} minutos`
                : minutes === 1
                  ? 'Resta menos de 1 minuto'
                  : 'O tempo acabou. O WhatsApp vai pedir de novo…',
        repeated: 'O WhatsApp pediu de novo. Use sua chave de acesso mais uma vez.',
        elsewhere:
            'Este passo precisa de um computador. Abra esta página nele, com o celular por perto e o Bluetooth ligado.',
        framed: 'Para sua segurança, este passo é feito em uma aba própria.',
        openTab: 'Abrir em uma nova aba',
        none: 'Não há extensão para este navegador. Abra esta página no Chrome, em um computador, ou faça manualmente:',
        share: 'Enviar o link',
        copyLink: 'Copiar o link',
        another: 'Copiar o link para outro computador',
        stop: 'Parar',
        startOver: 'Recomeçar com um novo código',
        again: 'Tentar de novo',
        code: 'Código para comparar com o celular',
        same: 'Sim, é igual',
        different: 'Não, parar',
        install: {
            title: 'Para isso é preciso uma pequena extensão do navegador, só desta vez.',
            get: 'Baixar a extensão',
            other: (/** @type {string} */ host) => `Outra extensão, em ${host}`,
            unpack: [
                'Descompacte o arquivo',
                'Abra <chrome://extensions> e ative o <Modo do desenvolvedor>',
                'Clique em <Carregar sem compactação> e escolha a pasta',
            ],
            unpackFirefox: [
                'Abra <about:debugging> e escolha <Este Firefox>',
                'Clique em <Carregar extensão temporária…> e escolha o arquivo',
            ],
            noticed: 'Depois volte para cá: a página percebe sozinha. Você pode remover a extensão no final.',
            firefox:
                'Depois clique no botão dela na barra de ferramentas, aqui nesta página. Você pode remover a extensão no final.',
        },
        manual: {
            title: 'Sem extensão',
            warning:
                'Nunca cole um código que alguém enviou. Este script vem desta página e só pede sua chave de acesso.',
            steps: [
                'Abra <web.whatsapp.com> em uma nova aba, aperte <F12> e escolha <Console>',
                'Cole o script e aperte Enter. Se o navegador não deixar, digite antes <allow pasting>',
                'Lá, clique em <Usar minha chave de acesso>',
                'Copie o resultado e cole-o abaixo',
            ],
            script: 'Script para copiar',
            copy: 'Copiar o script',
            result: 'Resultado',
            send: 'Enviar',
            broken: 'O resultado não está completo. Copie-o de novo, da primeira à última letra.',
        },
        unsigned: {
            busy: 'A extensão ainda está ocupada com outro pedido. Feche a aba dela e tente de novo.',
            refused: 'Você recusou na extensão. Nada foi assinado.',
            closed: 'A aba foi fechada antes de algo ser assinado. Você pode tentar de novo.',
            not_allowed:
                'O navegador não recebeu a chave de acesso: foi cancelado, demorou demais ou ela está em outro aparelho. Se estiver no celular, escolha o celular na janela do navegador.',
            bad_request: 'A extensão não entende este pedido. Atualize-a e tente de novo.',
            failed: 'A extensão não conseguiu assinar. Tente de novo.',
        },
        problems: {
            passkey_malformed: 'Isso não é uma resposta completa de uma chave de acesso. Tente de novo.',
            passkey_wrong_origin: 'Isso não foi assinado em web.whatsapp.com. Tente de novo lá.',
            passkey_wrong_challenge:
                'Isso responde a um pedido anterior. Use sua chave de acesso mais uma vez.',
            passkey_wrong_type: 'Isso não é um acesso com chave. Tente de novo.',
            passkey_wrong_site: 'Essa chave de acesso é de outro site. Escolha a do WhatsApp.',
            passkey_not_verified:
                'A chave foi usada sem digital, rosto ou PIN. O WhatsApp exige um deles. Tente de novo.',
            passkey_not_allowed: 'Essa chave de acesso não é desta conta. Escolha outra.',
            too_large: 'Isso é longo demais para uma resposta. Copie de novo.',
            too_many_requests: (/** @type {number} */ seconds) =>
                `Foram tentativas demais. Espere ${seconds} s.`,
            no_passkey_request: 'O WhatsApp não espera mais uma chave de acesso.',
            passkey_given: 'Uma chave já foi enviada. Aguarde o celular.',
            no_passkey_code: 'Não há mais nada para comparar.',
            passkey_code_changed: 'O código mudou. Compare mais uma vez.',
            unreachable: 'O servidor não responde. Tente de novo em um momento.',
            other: 'Não foi possível enviar. Tente de novo.',
        },
    },
    secure: 'Você pode desconectar quando quiser pelo celular.',
    linkedAs: (/** @type {string} */ name) => `Conectado como ${name}`,
    progress: (/** @type {number} */ percent) => `${percent}%`,
    retry: (/** @type {number} */ seconds) =>
        seconds > 0 ? `Nova tentativa em ${seconds} s` : 'Tentando de novo…',
    details: 'Detalhes para o administrador',
    lost: 'A conexão com o servidor foi perdida. Reconectando…',
    tryNow: 'Tentar agora',
    views: {
        preparing: {
            title: 'Preparando o seu código',
            text: 'O WhatsApp está sendo iniciado para você. Isso leva alguns segundos.',
        },
        slow: { text: 'Está demorando mais do que o normal. Você não precisa fazer nada.' },
        stopping: { title: 'Um momento', text: 'A sessão está sendo encerrada.' },
        code: { title: 'Conecte o seu WhatsApp' },
        phone: {
            title: 'Conecte com o número de telefone',
            text: 'Você recebe um código de oito caracteres para digitar no celular.',
        },
        pairing: { title: 'Digite este código no celular' },
        linking: {
            title: 'O celular respondeu',
            text: 'O WhatsApp está se conectando. Mantenha o celular com internet.',
        },
        reconnecting: {
            title: 'Reconectando ao WhatsApp',
            text: 'O celular continua conectado à conta. A reconexão é automática.',
        },
        linked: { title: 'WhatsApp conectado', text: 'Você já pode fechar esta página.' },
        timeout: {
            title: 'Nenhum código foi usado',
            text: 'Para sua segurança, os códigos ficam visíveis por pouco tempo.',
            action: 'Mostrar um novo código',
        },
        'passkey-opening': {
            title: 'Mais um passo: sua chave de acesso',
            text: 'O WhatsApp quer ver a chave de acesso da sua conta. Um momento…',
        },
        passkey: {
            title: 'Mais um passo: sua chave de acesso',
            text: 'O WhatsApp quer que você confirme com a chave de acesso da sua conta. Só você pode fazer isso, no seu navegador.',
        },
        'passkey-given': {
            title: 'Chave de acesso recebida',
            text: 'Mantenha o WhatsApp aberto no celular. Se ele perguntar algo, responda por lá.',
        },
        'passkey-code': {
            title: 'O celular mostra este código?',
            text: 'Compare as oito letras.',
        },
        'passkey-failed': {
            title: 'Não deu certo',
            text: 'O WhatsApp não recebeu uma chave de acesso que ele aceite. Ele vai pedir de novo em instantes, ou você recomeça com um novo código.',
        },
        'passkey-stuck': {
            title: 'O WhatsApp pede sua chave de acesso',
            text: 'Este passo não pode ser feito agora. Recomece com um novo código.',
            action: 'Mostrar um novo código',
        },
        'logged-out': {
            title: 'O celular foi desconectado',
            text: 'A sessão foi apagada aqui. Para usar o WhatsApp de novo, conecte o celular outra vez.',
            action: 'Conectar de novo',
        },
        idle: {
            title: 'Indisponível',
            text: 'Ainda não há celular conectado, e nenhum código na tela.',
            action: 'Mostrar um código',
        },
        stopped: {
            title: 'Parado pelo administrador',
            text: 'Pergunte ao administrador se pode ser iniciado de novo, ou inicie agora.',
            action: 'Iniciar de novo',
        },
        deleted: {
            title: 'Esta sessão foi excluída',
            text: 'O acesso foi apagado. Você pode configurá-la de novo.',
            action: 'Configurar de novo',
        },
        busy: {
            title: 'O serviço está lotado no momento',
            text: 'Não há espaço para mais uma sessão. Esta página tenta de novo sozinha.',
            action: 'Tentar agora',
        },
        failed: {
            title: 'O WhatsApp não pôde ser iniciado',
            text: 'Algo precisa ser corrigido no servidor. O administrador encontra o motivo abaixo.',
            action: 'Tentar de novo',
        },
        error: {
            title: 'Algo deu errado',
            text: 'O administrador encontra o motivo abaixo.',
            action: 'Tentar de novo',
        },
        refused: {
            title: 'Este link não vale mais',
            text: 'Os links desta página valem por pouco tempo e para um só usuário. Volte para onde estava e abra-a de novo.',
        },
        'bad-address': {
            title: 'Este link está incompleto',
            text: 'Ele não diz de quem é o WhatsApp a conectar. Volte para onde estava e abra-o de novo.',
        },
    },
    causes: {
        upstream_unreachable: {
            title: 'Não foi possível acessar o WhatsApp',
            text: 'O servidor está sem conexão com o WhatsApp. Ele continua tentando; você também pode tentar agora.',
        },
        upstream_silent: {
            title: 'O WhatsApp não responde',
            text: 'O WhatsApp não gerou código nem conectou a tempo. Tente de novo em um momento.',
        },
        upstream_changed: {
            title: 'O WhatsApp mudou',
            text: 'O servidor ainda não conhece a nova versão do WhatsApp. O administrador precisa atualizá-lo.',
        },
        passkey_button_missing: {
            title: 'O WhatsApp mudou',
            text: 'O WhatsApp pede sua chave de acesso, mas o servidor ainda não consegue abrir essa etapa. O administrador precisa atualizá-lo.',
        },
        passkey_failed: {
            title: 'O WhatsApp não aceitou a chave de acesso',
            text: 'Várias tentativas não deram certo. Recomece com um novo código.',
        },
        never_ready: {
            title: 'O WhatsApp não terminou de iniciar',
            text: 'O acesso foi aceito, mas o WhatsApp não terminou de carregar. Ele tenta de novo sozinho.',
        },
        auth_failure: {
            title: 'O WhatsApp recusou o acesso salvo',
            text: 'O administrador precisa desconectar o celular aqui; depois, conecte-o de novo.',
        },
        not_answering: {
            title: 'A sessão não responde',
            text: 'Ela é reiniciada sozinha em até um minuto.',
        },
        out_of_memory: {
            title: 'A sessão ficou sem memória',
            text: 'Ela reinicia sozinha. Se acontecer com frequência, avise o administrador.',
        },
        disk_full: {
            title: 'O disco do servidor está cheio',
            text: 'O administrador precisa liberar espaço primeiro.',
        },
    },
    pairingProblems: {
        pairing_refused:
            'O WhatsApp não gerou um código para este número. Confira o número e o código do país; após várias tentativas, espere uma hora ou escaneie um código.',
        pairing_limited:
            'Foram pedidos códigos demais ao WhatsApp, e por enquanto ele não gera mais nenhum. Espere um pouco ou escaneie um código.',
        bad_request: 'O WhatsApp não aceita este número. Confira-o, com o código do país.',
        too_many_requests: (/** @type {number} */ seconds) =>
            `Foram pedidos códigos demais. Espere ${seconds} s.`,
        already_linked: 'Já há um celular conectado.',
        superseded: 'Enquanto isso foi pedido um código para outro número. Peça de novo.',
        other: 'Não foi possível obter um código. Tente de novo ou escaneie um QR code.',
    },
    changes: {
        title: 'Quem mudou o quê',
        user: 'Usuário',
        since: 'Desde',
        periods: [
            { days: 1, label: 'um dia atrás' },
            { days: 7, label: '7 dias atrás' },
            { days: 30, label: '30 dias atrás' },
            { days: 365, label: 'um ano atrás' },
        ],
        show: 'Mostrar',
        close: 'Fechar',
        columns: ['Hora', 'Quem', 'De onde', 'Chamada', 'Resposta'],
        socket: 'este servidor',
        reading: 'Lendo o registro…',
        none: 'Ninguém mudou nada nesse período.',
        count: (/** @type {number} */ count, /** @type {number} */ most) =>
            count < most ? `Mudanças: ${count}, as mais novas primeiro.` : `As ${most} mudanças mais novas.`,
        failed: 'Não foi possível mostrar as mudanças.',
    },
};

export const texts = { en, 'pt-BR': pt };
