/** The words of the connect page in Spanish, as people write it in most of Latin America. */

import { connectText, fill } from './texts.mjs';

/** @type {import('./types').Texts} */
export const words = {
    stations: ['Preparar', 'Escanear', 'Conectar', 'Listo'],
    stationByPhone: 'Código',
    scan: {
        steps: [
            'Abre <WhatsApp> en tu teléfono',
            'Toca <Menú ⋮> en Android o <Configuración> en iPhone',
            'Toca <Dispositivos vinculados> y, luego, <Vincular dispositivo>',
            'Apunta el teléfono a esta pantalla',
        ],
        code: 'Código para escanear con WhatsApp',
        left: (seconds) => (seconds > 0 ? `Válido por ${seconds} s` : 'El próximo código está en camino…'),
        attempt: (attempt, attempts) => `Código ${attempt} de ${attempts}`,
        secret: 'Escanéalo solo con el teléfono del WhatsApp que quieres vincular. No envíes este código a nadie.',
        byPhone: 'Vincular con el número de teléfono',
    },
    phone: {
        label: 'Tu número de teléfono de WhatsApp',
        help: 'Con el código de país, por ejemplo +52\u00a055\u00a01234\u00a05678',
        prefix: '',
        ask: 'Obtener código',
        asking: 'Consultando a WhatsApp…',
        invalid: 'Este número está incompleto. Comienza con + y el código de país, por ejemplo +52.',
        zero: 'Sin ceros al inicio: comienza con el código de país, por ejemplo +52.',
        byScan: 'Escanear un código QR',
        replaces: 'Ya se pidió un código. Un código para otro número lo anula.',
    },
    pairing: {
        steps: [
            'Abre <WhatsApp> en tu teléfono. Toca el aviso “Ingresa el código para vincular un dispositivo nuevo”, si aparece; si no:',
            'Toca <Menú ⋮> o <Configuración>, luego <Dispositivos vinculados> y <Vincular dispositivo>',
            'Toca <Vincular con el número de teléfono>',
            'Escribe este código',
        ],
        code: 'Código para escribir en tu teléfono',
        number: (number) => `Código para ${number}`,
        copy: 'Copiar',
        copied: 'Copiado',
        left: (minutes, seconds) => `Válido por ${minutes}:${String(seconds).padStart(2, '0')}`,
        other: 'Usar otro número',
    },
    elsewhere: {
        scan: 'Mostrar un código QR aquí',
        number: 'Obtener un código aquí',
        note: 'Un código QR anula el código que se pidió, y un código para otro número también. Para el mismo número, el código es el mismo.',
    },
    passkey: {
        ahead: {
            elsewhere: 'Es posible que necesites una computadora para el último paso.',
            helper: 'Si WhatsApp pide tu llave de acceso al final, este navegador está listo.',
            install: '¿Usas una llave de acceso? Prepara antes este navegador.',
        },
        meaning: (host) =>
            `Después de esto, ${host} podrá leer y enviar mensajes de esta cuenta hasta que lo quites ` +
            'en el teléfono, en Dispositivos vinculados. Detente si no fuiste tú quien empezó.',
        action: 'Usar mi llave de acceso',
        signing: 'Continúa en la pestaña nueva…',
        sending: 'Enviando…',
        left: (minutes) =>
            minutes > 1
                ? `Quedan ${minutes} minutos`
                : minutes === 1
                  ? 'Queda menos de 1 minuto'
                  : 'Se acabó el tiempo. WhatsApp la pedirá otra vez…',
        repeated: 'WhatsApp la pidió otra vez. Usa tu llave de acceso una vez más.',
        elsewhere:
            'Para este paso necesitas una computadora. Abre esta página allí, con el teléfono cerca y el Bluetooth encendido.',
        framed: 'Por tu seguridad, este paso se hace en una pestaña propia.',
        openTab: 'Abrir en una pestaña nueva',
        none: 'No hay una extensión para este navegador. Abre esta página en Chrome, en una computadora, o hazlo manualmente:',
        share: 'Enviar el enlace',
        copyLink: 'Copiar el enlace',
        another: 'Copiar el enlace para otra computadora',
        stop: 'Detener',
        startOver: 'Empezar de nuevo con otro código',
        again: 'Intentar de nuevo',
        code: 'Código para comparar con tu teléfono',
        same: 'Sí, es igual',
        different: 'No, detener',
        install: {
            title: 'Para esto, instala una pequeña extensión del navegador. Es solo esta vez.',
            get: 'Descargar la extensión',
            other: (host) => `Otra extensión, de ${host}`,
            unpack: [
                'Descomprime el archivo',
                'Abre <chrome://extensions> y activa el <Modo de desarrollador>',
                'Haz clic en <Cargar extensión sin empaquetar> y elige la carpeta',
            ],
            unpackFirefox: [
                'Abre <about:debugging> y elige <Este Firefox>',
                'Haz clic en <Cargar complemento temporal…> y elige el archivo',
            ],
            noticed: 'Luego vuelve aquí: la página lo detecta. Después puedes quitar la extensión.',
            firefox:
                'Luego haz clic en su botón en la barra de herramientas, aquí en esta página. Después puedes quitar la extensión.',
        },
        manual: {
            title: 'Sin extensión',
            warning:
                'Nunca pegues un código que alguien te haya enviado. Este script es de esta página y solo pide tu llave de acceso.',
            steps: [
                'Abre <web.whatsapp.com> en una pestaña nueva, presiona <F12> y elige <Consola>',
                'Pega el script y presiona Enter. Si el navegador no lo permite, escribe antes <allow pasting>',
                'Allí, haz clic en <Usar mi llave de acceso>',
                'Copia el resultado y pégalo abajo',
            ],
            script: 'Script para copiar',
            copy: 'Copiar el script',
            result: 'Resultado',
            send: 'Enviar',
            broken: 'El resultado está incompleto. Cópialo otra vez, de la primera letra a la última.',
        },
        unsigned: {
            busy: 'La extensión todavía está ocupada con otra solicitud. Cierra su pestaña e intenta de nuevo.',
            refused: 'Lo rechazaste en la extensión. No se firmó nada.',
            closed: 'La pestaña se cerró antes de que se firmara algo. Puedes intentar de nuevo.',
            not_allowed:
                'El navegador no recibió la llave de acceso: se canceló, tardó demasiado o está en otro dispositivo. Si está en tu teléfono, elige el teléfono en la ventana del navegador.',
            bad_request: 'La extensión no entiende esta solicitud. Actualízala e intenta de nuevo.',
            failed: 'La extensión no pudo firmar. Intenta de nuevo.',
        },
        problems: {
            passkey_malformed: 'Esta respuesta de la llave de acceso está incompleta. Intenta de nuevo.',
            passkey_wrong_origin: 'Esto no se firmó en web.whatsapp.com. Intenta de nuevo allí.',
            passkey_wrong_challenge:
                'Esto responde a una solicitud anterior. Usa tu llave de acceso una vez más.',
            passkey_wrong_type: 'Esto no es un inicio de sesión con llave de acceso. Intenta de nuevo.',
            passkey_wrong_site: 'Esta llave de acceso es de otro sitio. Elige la de WhatsApp.',
            passkey_not_verified:
                'La llave de acceso se usó sin huella, rostro ni PIN. WhatsApp exige uno de ellos. Intenta de nuevo.',
            passkey_not_allowed: 'Esta llave de acceso no es de esta cuenta. Elige otra.',
            too_large: 'Esto es demasiado largo para una respuesta. Cópialo otra vez.',
            too_many_requests: (seconds) => `Hubo demasiados intentos. Espera ${seconds} s.`,
            no_passkey_request: 'WhatsApp ya no espera una llave de acceso.',
            passkey_given: 'Ya se envió una llave de acceso. Espera a tu teléfono.',
            no_passkey_code: 'Ya no hay nada que comparar.',
            passkey_code_changed: 'El código cambió. Compáralo una vez más.',
            unreachable: 'El servidor no responde. Intenta de nuevo en un momento.',
            other: 'No se pudo enviar. Intenta de nuevo.',
        },
    },
    secure: 'Puedes desvincularlo cuando quieras desde tu teléfono.',
    linkedAs: (name) => `Vinculado como ${name}`,
    progress: (percent) => `${percent} %`,
    retry: (seconds) => (seconds > 0 ? `Nuevo intento en ${seconds} s` : 'Intentando de nuevo…'),
    details: 'Detalles para el administrador',
    lost: 'Se perdió la conexión con el servidor. Reconectando…',
    tryNow: 'Intentar ahora',
    replaced:
        'El código que se mostraba aquí ya no sirve. Es posible que otra ventana haya pedido uno nuevo.',
    back: 'Volver a la app',
    views: {
        preparing: {
            title: 'Preparando tu código',
            text: 'WhatsApp se está iniciando para ti. Esto tarda unos segundos.',
        },
        slow: { text: 'Está tardando más de lo normal. No tienes que hacer nada.' },
        stopping: { title: 'Un momento', text: 'La sesión se está deteniendo.' },
        code: { title: 'Vincula tu WhatsApp' },
        phone: {
            title: 'Vincula con tu número de teléfono',
            text: 'Recibes un código de ocho caracteres para escribir en tu teléfono.',
        },
        pairing: { title: 'Escribe este código en tu teléfono' },
        elsewhere: {
            title: 'Se pidió un código para un número de teléfono',
            text: 'Se muestra en la ventana donde se pidió. Escríbelo en tu teléfono; esta página muestra lo que pasa.',
        },
        linking: {
            title: 'Tu teléfono respondió',
            text: 'WhatsApp se está conectando. Mantén el teléfono conectado a internet.',
        },
        reconnecting: {
            title: 'Reconectando con WhatsApp',
            text: 'El teléfono sigue vinculado. La reconexión es automática.',
        },
        linked: { title: 'WhatsApp está vinculado', text: 'Ya puedes cerrar esta página.' },
        timeout: {
            title: 'No se usó ningún código',
            text: 'Por tu seguridad, los códigos se muestran por poco tiempo.',
            action: 'Mostrar un código nuevo',
        },
        'passkey-opening': {
            title: 'Un paso más: tu llave de acceso',
            text: 'WhatsApp quiere ver la llave de acceso de tu cuenta. Un momento…',
        },
        passkey: {
            title: 'Un paso más: tu llave de acceso',
            text: 'WhatsApp quiere que confirmes con la llave de acceso de tu cuenta. Solo tú puedes hacerlo, en tu propio navegador.',
        },
        'passkey-given': {
            title: 'Llave de acceso recibida',
            text: 'Mantén WhatsApp abierto en tu teléfono. Si te pregunta algo, responde allí.',
        },
        'passkey-code': {
            title: '¿Tu teléfono muestra este código?',
            text: 'Compara las ocho letras.',
        },
        'passkey-failed': {
            title: 'No funcionó',
            text: 'WhatsApp no aceptó la llave de acceso. La pedirá otra vez en un momento; si prefieres, empieza de nuevo con otro código.',
        },
        'passkey-stuck': {
            title: 'WhatsApp pide tu llave de acceso',
            text: 'Este paso no se puede hacer ahora. Empieza de nuevo con otro código.',
            action: 'Mostrar un código nuevo',
        },
        'logged-out': {
            title: 'El teléfono se desvinculó',
            text: 'La sesión se eliminó aquí. Para usar WhatsApp aquí otra vez, vuelve a vincular el teléfono.',
            action: 'Vincular de nuevo',
        },
        idle: {
            title: 'Inactivo',
            text: 'Todavía no hay ningún teléfono vinculado ni código en pantalla.',
            action: 'Mostrar un código',
        },
        stopped: {
            title: 'Detenido por el administrador',
            text: 'Pregunta al administrador si se puede iniciar de nuevo, o inícialo ahora.',
            action: 'Iniciar de nuevo',
        },
        deleted: {
            title: 'Esta sesión se eliminó',
            text: 'Sus datos de acceso ya no existen. Puedes configurarla de nuevo.',
            action: 'Configurar de nuevo',
        },
        busy: {
            title: 'El servicio está lleno en este momento',
            text: 'No hay lugar para otra sesión. Esta página lo intentará de nuevo automáticamente.',
            action: 'Intentar ahora',
        },
        failed: {
            title: 'No se pudo iniciar WhatsApp',
            text: 'Primero hay que corregir algo en el servidor. El administrador encuentra el motivo abajo.',
            action: 'Intentar de nuevo',
        },
        error: {
            title: 'Algo salió mal',
            text: 'El administrador encuentra el motivo abajo.',
            action: 'Intentar de nuevo',
        },
        expired: {
            title: 'Este enlace venció',
            text: 'Por tu seguridad, los enlaces a esta página son válidos por poco tiempo. Abre la página otra vez desde donde recibiste este enlace.',
        },
        'expired-linking': {
            title: 'Este enlace venció',
            text: 'Tu teléfono ya había respondido. Si el nuevo dispositivo aparece en Dispositivos vinculados, ya está listo. Si no, abre esta página otra vez desde donde recibiste el enlace.',
        },
        unloaded: {
            title: 'Una parte de esta página no se cargó',
            text: 'Revisa tu conexión y vuelve a cargar la página.',
            action: 'Volver a cargar',
        },
        refused: {
            title: 'Este enlace ya no es válido',
            text: 'Los enlaces a esta página son válidos por poco tiempo y para un solo usuario. Vuelve a donde estabas y ábrela otra vez.',
        },
        'bad-address': {
            title: 'Este enlace está incompleto',
            text: 'No indica de quién es el WhatsApp. Vuelve a donde estabas y ábrelo otra vez.',
        },
    },
    causes: {
        upstream_unreachable: {
            title: 'No se puede acceder a WhatsApp',
            text: 'El servidor no tiene conexión con WhatsApp en este momento. Sigue intentándolo; tú también puedes intentarlo ahora.',
        },
        upstream_silent: {
            title: 'WhatsApp no responde',
            text: 'WhatsApp no dio un código ni se conectó a tiempo. Intenta de nuevo en un momento.',
        },
        upstream_changed: {
            title: 'WhatsApp cambió',
            text: 'El servidor todavía no conoce la nueva versión de WhatsApp. El administrador tiene que actualizarlo.',
        },
        passkey_button_missing: {
            title: 'WhatsApp cambió',
            text: 'WhatsApp pide tu llave de acceso, pero el servidor todavía no puede abrir ese paso. El administrador tiene que actualizarlo.',
        },
        passkey_failed: {
            title: 'WhatsApp no aceptó la llave de acceso',
            text: 'Varios intentos no funcionaron. Empieza de nuevo con otro código.',
        },
        never_ready: {
            title: 'WhatsApp no terminó de iniciar',
            text: 'Se aceptó el inicio de sesión, pero WhatsApp no terminó de cargar. Se intentará de nuevo automáticamente.',
        },
        auth_failure: {
            title: 'WhatsApp rechazó la sesión guardada',
            text: 'El administrador tiene que desvincular el teléfono aquí. Luego vincúlalo otra vez.',
        },
        not_answering: {
            title: 'La sesión no responde',
            text: 'Se reiniciará automáticamente en menos de un minuto.',
        },
        out_of_memory: {
            title: 'La sesión se quedó sin memoria',
            text: 'Se reinicia automáticamente. Si pasa seguido, avisa al administrador.',
        },
        disk_full: {
            title: 'El disco del servidor está lleno',
            text: 'El administrador tiene que liberar espacio primero.',
        },
    },
    pairingProblems: {
        pairing_refused:
            'WhatsApp no dio un código para este número. Revisa el número y el código de país; después de varios intentos, espera una hora o escanea un código.',
        pairing_limited:
            'Se pidieron demasiados códigos y WhatsApp no da más por ahora. Espera un rato o escanea un código.',
        bad_request: 'WhatsApp no acepta este número. Revísalo, con su código de país.',
        too_many_requests: (seconds) => `Se pidieron demasiados códigos. Espera ${seconds} s.`,
        already_linked: 'Ya hay un teléfono vinculado.',
        superseded: 'Mientras tanto se pidió un código para otro número. Pídelo otra vez.',
        other: 'No se pudo obtener un código. Intenta de nuevo o escanea un código QR.',
    },
};

fill(connectText, words);
