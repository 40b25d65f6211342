/** The words of the connect page in Brazilian Portuguese. */

import { connectText, fill } from './texts.mjs';

/** @type {import('./types').Texts} */
export const words = {
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
        left: (seconds) => (seconds > 0 ? `Válido por ${seconds} s` : 'O próximo código está a caminho…'),
        attempt: (attempt, attempts) => `Código ${attempt} de ${attempts}`,
        secret: 'Escaneie só com o celular do WhatsApp que você quer conectar. Não envie este código a ninguém.',
        byPhone: 'Conectar com número de telefone',
    },
    phone: {
        label: 'Seu número de telefone do WhatsApp',
        help: 'Com código do país e DDD, por exemplo +55\u00a011\u00a099999\u20118888',
        prefix: '+55 ',
        ask: 'Receber código',
        asking: 'Pedindo ao WhatsApp…',
        invalid:
            'Este número não está completo. Digite o DDD e o número, ou comece com + e o código do país.',
        zero: 'Sem zeros no início: comece com o código do país, por exemplo +55.',
        byScan: 'Escanear um QR code',
        replaces: 'Já foi pedido um código. Um código para outro número cancela o anterior.',
    },
    pairing: {
        steps: [
            'Abra o <WhatsApp> no seu celular. Toque no aviso “Insira o código para conectar um novo dispositivo”, se aparecer; senão:',
            'Toque em <Mais opções ⋮> ou <Configurações>, em <Dispositivos conectados> e em <Conectar dispositivo>',
            'Toque em <Conectar com número de telefone>',
            'Digite este código',
        ],
        code: 'Código para digitar no celular',
        number: (number) => `Código para ${number}`,
        copy: 'Copiar',
        copied: 'Copiado',
        left: (minutes, seconds) => `Válido por ${minutes}:${String(seconds).padStart(2, '0')}`,
        other: 'Usar outro número',
    },
    elsewhere: {
        scan: 'Mostrar um QR code aqui',
        number: 'Receber um código aqui',
        note: 'Um QR code cancela o código que foi pedido, e um código para outro número também. Para o mesmo número, o código é o mesmo.',
    },
    passkey: {
        ahead: {
            elsewhere: 'Talvez você precise de um computador no último passo.',
            helper: 'Se o WhatsApp pedir sua chave de acesso no final, este navegador está pronto.',
            install: 'Usa chave de acesso? Prepare antes este navegador.',
        },
        meaning: (host) =>
            `Depois disso, ${host} poderá ler e enviar mensagens desta conta até você removê-lo ` +
            'no celular, em Dispositivos conectados. Pare se não foi você quem começou.',
        action: 'Usar minha chave de acesso',
        signing: 'Continue na nova aba…',
        sending: 'Enviando…',
        left: (minutes) =>
            minutes > 1
                ? `Restam ${minutes} minutos`
                : minutes === 1
                  ? 'Resta menos de 1 minuto'
                  : 'O tempo acabou. O WhatsApp vai pedir de novo…',
        repeated: 'O WhatsApp pediu de novo. Use sua chave de acesso mais uma vez.',
        elsewhere:
            'Para este passo, você precisa de um computador. Abra esta página nele, com o celular por perto e o Bluetooth ligado.',
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
            title: 'Para isso, instale uma pequena extensão do navegador. É só desta vez.',
            get: 'Baixar a extensão',
            other: (host) => `Outra extensão, em ${host}`,
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
                'O navegador não recebeu a chave de acesso: a operação foi cancelada, demorou demais ou a chave está em outro aparelho. Se estiver no celular, escolha o celular na janela do navegador.',
            bad_request: 'A extensão não entende este pedido. Atualize-a e tente de novo.',
            failed: 'A extensão não conseguiu assinar. Tente de novo.',
        },
        problems: {
            passkey_malformed: 'Esta resposta da chave de acesso está incompleta. Tente de novo.',
            passkey_wrong_origin: 'Isso não foi assinado em web.whatsapp.com. Tente de novo lá.',
            passkey_wrong_challenge:
                'Isso responde a um pedido anterior. Use sua chave de acesso mais uma vez.',
            passkey_wrong_type: 'Isso não é uma confirmação com chave de acesso. Tente de novo.',
            passkey_wrong_site: 'Essa chave de acesso é de outro site. Escolha a do WhatsApp.',
            passkey_not_verified:
                'A chave foi usada sem digital, rosto ou PIN. O WhatsApp exige um deles. Tente de novo.',
            passkey_not_allowed: 'Essa chave de acesso não é desta conta. Escolha outra.',
            too_large: 'Isso é longo demais para uma resposta. Copie de novo.',
            too_many_requests: (seconds) => `Foram tentativas demais. Espere ${seconds} s.`,
            no_passkey_request: 'O WhatsApp não espera mais uma chave de acesso.',
            passkey_given: 'Uma chave já foi enviada. Aguarde o celular.',
            no_passkey_code: 'Não há mais nada para comparar.',
            passkey_code_changed: 'O código mudou. Compare mais uma vez.',
            unreachable: 'O servidor não responde. Tente de novo em um momento.',
            other: 'Não foi possível enviar. Tente de novo.',
        },
    },
    secure: 'Você pode desconectar quando quiser pelo celular.',
    linkedAs: (name) => `Conectado como ${name}`,
    progress: (percent) => `${percent}%`,
    retry: (seconds) => (seconds > 0 ? `Nova tentativa em ${seconds} s` : 'Tentando de novo…'),
    details: 'Detalhes para o administrador',
    lost: 'A conexão com o servidor foi perdida. Reconectando…',
    tryNow: 'Tentar agora',
    replaced: 'O código que estava nesta tela não vale mais. Talvez outra janela tenha pedido um novo.',
    back: 'Voltar para o app',
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
        elsewhere: {
            title: 'Já foi pedido um código por número de telefone',
            text: 'Ele aparece na janela em que foi pedido. Digite-o no celular; esta página mostra o andamento.',
        },
        linking: {
            title: 'O celular respondeu',
            text: 'O WhatsApp está se conectando. Mantenha o celular conectado à internet.',
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
            text: 'O WhatsApp não aceitou a chave de acesso. Ele vai pedir de novo em instantes; se preferir, recomece com um novo código.',
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
            title: 'Parado',
            text: 'Ainda não há celular conectado nem código na tela.',
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
        expired: {
            title: 'Este link expirou',
            text: 'Para sua segurança, os links desta página valem por pouco tempo. Abra a página de novo no lugar de onde veio este link.',
        },
        'expired-linking': {
            title: 'Este link expirou',
            text: 'O celular já tinha respondido. Se o novo aparelho aparece nele em Dispositivos conectados, está tudo certo. Se não, abra esta página de novo no lugar de onde veio o link.',
        },
        unloaded: {
            title: 'Uma parte desta página não carregou',
            text: 'Confira sua conexão e carregue a página de novo.',
            action: 'Carregar de novo',
        },
        refused: {
            title: 'Este link não vale mais',
            text: 'Os links desta página valem por pouco tempo e para um só usuário. Volte para onde estava e abra-a de novo.',
        },
        'bad-address': {
            title: 'Este link está incompleto',
            text: 'Ele não informa de quem é o WhatsApp. Volte para onde estava e abra-o de novo.',
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
        too_many_requests: (seconds) => `Foram pedidos códigos demais. Espere ${seconds} s.`,
        already_linked: 'Já há um celular conectado.',
        superseded: 'Nesse meio-tempo, foi pedido um código para outro número. Peça de novo.',
        other: 'Não foi possível obter um código. Tente de novo ou escaneie um QR code.',
    },
};

fill(connectText, words);
