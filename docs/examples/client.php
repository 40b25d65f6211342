<?php
/**
 * waportd from PHP: prints the code that a user has to scan, or says that a phone is linked.
 *
 *     php client.php 2
 *
 * Needs php-curl, and to run as a user of group waportd (for Apache: usermod --append --groups waportd www-data, then restart it).
 */

declare(strict_types=1);

const SOCKET = '/run/waportd/api.sock';

/** Call waportd; return the document, or throw what it says is wrong. */
function waportd(string $method, string $path, ?array $body = null, int $timeout = 100): array
{
    $socket = getenv('WAPORTD_SOCKET') ?: SOCKET;
    $curl = curl_init("http://localhost$path");
    curl_setopt_array($curl, [
        CURLOPT_UNIX_SOCKET_PATH => $socket,
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => $timeout,
    ]);
    if ($body !== null) {
        curl_setopt($curl, CURLOPT_POSTFIELDS, json_encode($body, JSON_THROW_ON_ERROR));
        curl_setopt($curl, CURLOPT_HTTPHEADER, ['Content-Type: application/json']);
    }
    $text = curl_exec($curl);
    if ($text === false) {
        throw new RuntimeException("waportd does not answer on $socket: " . curl_error($curl));
    }
    $document = json_decode($text, true, 512, JSON_THROW_ON_ERROR);
    if (curl_getinfo($curl, CURLINFO_RESPONSE_CODE) >= 400) {
        throw new RuntimeException($document['detail'] . ($document['hint'] ? "; {$document['hint']}" : ''));
    }
    return $document;
}

try {
    $user = rawurlencode($argv[1] ?? '1');
    // Returns when there is a code, or a phone is linked.
    waportd('PUT', "/v1/users/$user?wait=qr");
    $code = waportd('GET', "/v1/users/$user/qr");
    // Without a code the hint is the next step: of who is asked for a passkey, the connect link.
    echo $code['qr'] ?? "user {$code['user']}: {$code['message']}" . ($code['hint'] ? "; {$code['hint']}" : ''), "\n";
} catch (RuntimeException $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
