/** The words of the connect page. Functions take what is filled in. */

const en = {
    page: 'Link WhatsApp',
    stations: ['Prepare', 'Scan', 'Connect', 'Linked'],
    station: (number, of, name) => `Step ${number} of ${of}: ${name}`,
    scan: {
        steps: [
            'Open <WhatsApp> on your phone',
            'Tap <Menu ⋮> on Android, or <Settings> on iPhone',
            'Tap <Linked devices>, then <Link a device>',
            'Point your phone at this screen',
        ],
        code: 'Code to scan with WhatsApp',
        left: (seconds) => (seconds > 0 ? `Valid for ${seconds} s` : 'The next code is on its way…'),
        attempt: (attempt, attempts) => `Code ${attempt} of ${attempts}`,
        secret: 'Whoever scans this code gets access to the account: show it to nobody.',
        byPhone: 'Link with phone number instead',
    },
    phone: {
        label: 'Your WhatsApp phone number',
        help: 'With country code, for example +1 202 555 0123',
        prefix: '',
        ask: 'Get a code',
        asking: 'Asking WhatsApp…',
        invalid: 'That is no complete phone number. It starts with the country code and has 8 to 15 digits.',
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
        copy: 'Copy',
        copied: 'Copied',
        left: (minutes, seconds) => `Valid for ${minutes}:${String(seconds).padStart(2, '0')}`,
        other: 'Use another number',
    },
    secure: 'The phone stays in charge: you can unlink this device there at any time.',
    linkedAs: (name) => `Linked as ${name}`,
    progress: (percent) => `${percent} %`,
    retry: (seconds) => (seconds > 0 ? `Trying again in ${seconds} s` : 'Trying again…'),
    details: 'Details for the administrator',
    lost: 'The connection to the server is lost. Reconnecting…',
    tryNow: 'Try now',
    views: {
        preparing: {
            title: 'Getting your code ready',
            text: 'WhatsApp is being started for you. This takes a few seconds.',
        },
        slow: { text: 'This takes longer than usual. You need not do anything.' },
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
            text: 'The phone is still linked. The connection comes back by itself.',
        },
        linked: { title: 'WhatsApp is linked', text: 'You can close this page.' },
        timeout: {
            title: 'No code was used',
            text: 'For your safety, codes are shown for a short time only.',
            action: 'Show a new code',
        },
        passkey: {
            title: 'WhatsApp asks for a passkey',
            text:
                'An account with a passkey cannot be linked here. On the phone, open Settings, Account, Passkeys, ' +
                'remove the passkey, and then get a new code. You can create the passkey again afterwards.',
            action: 'Show a new code',
        },
        'logged-out': {
            title: 'The phone was unlinked',
            text: 'The session was deleted here. To use WhatsApp here again, link the phone anew.',
            action: 'Link again',
        },
        idle: {
            title: 'Not running',
            text: 'Nothing is linked yet, and no code is on show.',
            action: 'Show a code',
        },
        stopped: {
            title: 'Stopped by the administrator',
            text: 'Ask the administrator whether it may be started again, or start it now.',
            action: 'Start again',
        },
        deleted: {
            title: 'This session was deleted',
            text: 'Its login is gone. You can set it up anew.',
            action: 'Set up again',
        },
        busy: {
            title: 'All places are taken',
            text: 'There is no room for another session right now. This page tries again by itself.',
            action: 'Try now',
        },
        failed: {
            title: 'WhatsApp could not be started',
            text: 'Something on the server has to be mended first. The administrator finds the reason below.',
            action: 'Try again',
        },
        error: {
            title: 'Something went wrong',
            text: 'The administrator finds the reason below.',
            action: 'Try again',
        },
        refused: {
            title: 'This link is not valid any more',
            text: 'Links to this page hold for a short time and for one user. Go back to where you came from and open it anew.',
        },
        'bad-address': {
            title: 'This link is incomplete',
            text: 'It does not say whose WhatsApp is to be linked. Go back to where you came from and open it anew.',
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
        never_ready: {
            title: 'WhatsApp does not get ready',
            text: 'The login was accepted, but WhatsApp did not finish loading. It is tried again by itself.',
        },
        auth_failure: {
            title: 'WhatsApp refused the stored login',
            text: 'The phone has to be unlinked here by the administrator and then linked anew.',
        },
        not_answering: {
            title: 'The session does not answer',
            text: 'It is restarted by itself within a minute.',
        },
        out_of_memory: {
            title: 'The session ran out of memory',
            text: 'It starts again by itself. If this happens often, tell the administrator.',
        },
        disk_full: {
            title: 'The disk of the server is full',
            text: 'The administrator has to make room first.',
        },
    },
    pairingProblems: {
        pairing_refused:
            'WhatsApp gave no code for this number. Check the number and its country code; after several tries wait an hour or scan a code.',
        pairing_limited: 'WhatsApp was asked for codes too often and gives none for now. Wait a while, or scan a code.',
        bad_request: 'WhatsApp does not take this number. Check it and its country code.',
        too_many_requests: (seconds) => `Too many codes were asked for. Please wait ${seconds} s.`,
        already_linked: 'A phone is linked already.',
        superseded: 'A code for another number was asked for meanwhile. Ask again.',
        other: 'No code could be had. Try again, or scan a QR code.',
    },
};

const pt = {
    page: 'Conectar WhatsApp',
    stations: ['Preparar', 'Escanear', 'Conectar', 'Pronto'],
    station: (number, of, name) => `Etapa ${number} de ${of}: ${name}`,
    scan: {
        steps: [
            'Abra o <WhatsApp> no seu celular',
            'Toque em <Mais opções ⋮> no Android ou em <Configurações> no iPhone',
            'Toque em <Dispositivos conectados> e, em seguida, em <Conectar dispositivo>',
            'Aponte o celular para esta tela',
        ],
        code: 'Código para escanear com o WhatsApp',
        left: (seconds) => (seconds > 0 ? `Válido por ${seconds} s` : 'O próximo código está a caminho…'),
        attempt: (attempt, attempts) => `Código ${attempt} de ${attempts}`,
        secret: 'Quem escanear este código terá acesso à conta: não o mostre a ninguém.',
        byPhone: 'Conectar com número de telefone',
    },
    phone: {
        label: 'Seu número de telefone do WhatsApp',
        help: 'Com código do país e DDD, por exemplo +55 11 99999-8888',
        prefix: '+55 ',
        ask: 'Receber código',
        asking: 'Pedindo ao WhatsApp…',
        invalid: 'Este número não está completo. Ele começa com o código do país e tem de 8 a 15 dígitos.',
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
        copy: 'Copiar',
        copied: 'Copiado',
        left: (minutes, seconds) => `Válido por ${minutes}:${String(seconds).padStart(2, '0')}`,
        other: 'Usar outro número',
    },
    secure: 'O celular continua no comando: você pode desconectar este dispositivo por lá a qualquer momento.',
    linkedAs: (name) => `Conectado como ${name}`,
    progress: (percent) => `${percent}%`,
    retry: (seconds) => (seconds > 0 ? `Nova tentativa em ${seconds} s` : 'Tentando de novo…'),
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
            text: 'O celular continua conectado à conta. A conexão volta sozinha.',
        },
        linked: { title: 'WhatsApp conectado', text: 'Você já pode fechar esta página.' },
        timeout: {
            title: 'Nenhum código foi usado',
            text: 'Para sua segurança, os códigos ficam visíveis por pouco tempo.',
            action: 'Mostrar um novo código',
        },
        passkey: {
            title: 'O WhatsApp pede uma chave de acesso',
            text:
                'Uma conta com chave de acesso não pode ser conectada aqui. No celular, abra Configurações, Conta, ' +
                'Chaves de acesso, remova a chave e peça um novo código. Depois você pode criá-la de novo.',
            action: 'Mostrar um novo código',
        },
        'logged-out': {
            title: 'O celular foi desconectado',
            text: 'A sessão foi apagada aqui. Para usar o WhatsApp de novo, conecte o celular outra vez.',
            action: 'Conectar de novo',
        },
        idle: {
            title: 'Fora de operação',
            text: 'Ainda não há celular conectado, e nenhum código está à mostra.',
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
            title: 'Todos os lugares estão ocupados',
            text: 'Não há espaço para mais uma sessão agora. Esta página tenta de novo sozinha.',
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
            title: 'O WhatsApp está fora de alcance',
            text: 'O servidor está sem conexão com o WhatsApp. Ele continua tentando; você também pode tentar agora.',
        },
        upstream_silent: {
            title: 'O WhatsApp não responde',
            text: 'O WhatsApp não deu nem código nem acesso a tempo. Tente de novo em um momento.',
        },
        upstream_changed: {
            title: 'O WhatsApp mudou',
            text: 'O servidor ainda não conhece a nova versão do WhatsApp. O administrador precisa atualizá-lo.',
        },
        never_ready: {
            title: 'O WhatsApp não fica pronto',
            text: 'O acesso foi aceito, mas o WhatsApp não terminou de carregar. Ele tenta de novo sozinho.',
        },
        auth_failure: {
            title: 'O WhatsApp recusou o acesso guardado',
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
            'O WhatsApp não deu um código para este número. Confira o número e o código do país; após várias tentativas, espere uma hora ou escaneie um código.',
        pairing_limited: 'Foram pedidos códigos demais ao WhatsApp, e por enquanto ele não dá nenhum. Espere um pouco ou escaneie um código.',
        bad_request: 'O WhatsApp não aceita este número. Confira-o, com o código do país.',
        too_many_requests: (seconds) => `Foram pedidos códigos demais. Espere ${seconds} s.`,
        already_linked: 'Já há um celular conectado.',
        superseded: 'Enquanto isso foi pedido um código para outro número. Peça de novo.',
        other: 'Não foi possível obter um código. Tente de novo ou escaneie um QR code.',
    },
};

export const texts = { en, 'pt-BR': pt };
