<?php
/**
 * An echo bot in PHP: answers each text that a person writes with the same text.
 *
 *     WEBHOOK_SECRET=whsec_… php -S localhost:5002 echo.php
 *
 * Needs php-curl. In waportd's configuration, instances.webhook_url is http://localhost:5002/webhook,
 * instances.webhook_secret the same secret, and ports.reserved names 5002.
 */

declare(strict_types=1);

const OLDEST_S = 300;

/** Return whether waportd signed this, and just now: https://www.standardwebhooks.com */
function is_signed(string $id, string $time, string $signatures, string $body): bool
{
    if (!preg_match('/^[\w-]{1,64}$/D', $id) || abs(time() - (int) $time) >= OLDEST_S) {
        return false;
    }
    // One secret, or two with a comma between while the old one is being replaced.
    foreach (explode(',', (string) getenv('WEBHOOK_SECRET')) as $secret) {
        $key = base64_decode(substr($secret, 6));
        $wanted = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$time.$body", $key, true));
        foreach (explode(' ', $signatures) as $given) {
            if ($key !== '' && hash_equals($wanted, $given)) {
                return true;
            }
        }
    }
    return false;
}

/** Send an answer. The key has it sent once, though this may be called again for the same event. */
function reply(string $id, array $event): bool
{
    $curl = curl_init("http://localhost:{$event['port']}/messages");
    curl_setopt_array($curl, [
        CURLOPT_POSTFIELDS => json_encode(
            ['to' => $event['chat']['id'], 'text' => $event['body']],
            JSON_THROW_ON_ERROR
        ),
        CURLOPT_HTTPHEADER => ['Content-Type: application/json', "Idempotency-Key: echo-$id"],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 20,
    ]);
    $answer = curl_exec($curl);
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    if ($status < 200 || $status >= 300) {
        error_log("not sent: $status " . (string) $answer);
        return false;
    }
    return true;
}

/** Take an event; return the status that waportd is answered. Without a 2xx the event comes again later. */
function take(string $body): int
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $time = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!is_signed($id, $time, $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body)) {
        return 401;
    }
    // Events that are done, one file each: the same can come again, also after this program was restarted.
    $folder = getenv('DONE') ?: 'done';
    if (!is_dir($folder)) {
        mkdir($folder);
    }
    if (file_exists("$folder/$id")) {
        return 200;
    }
    $event = json_decode($body, true, 64, JSON_THROW_ON_ERROR);
    $wanted = $event['event'] === 'message' && $event['chat']['type'] === 'person' && $event['body'] !== '';
    if ($wanted && !reply($id, $event)) {
        return 503;
    }
    touch("$folder/$id");
    return 200;
}

http_response_code(take((string) file_get_contents('php://input')));
