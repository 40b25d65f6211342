'use strict';

const js = require('@eslint/js');

const readonly = (names) => Object.fromEntries(names.split(/\s+/).map((name) => [name, 'readonly']));

const everywhere = readonly(
    'AbortController AbortSignal TextDecoder TextDecoderStream TextEncoder URL URLSearchParams atob btoa ' +
        'clearInterval clearTimeout console crypto escape fetch performance queueMicrotask setInterval ' +
        'setTimeout structuredClone',
);
const node = readonly(
    'Buffer Event EventTarget __dirname __filename exports module process require setImmediate',
);
const browser = readonly(
    'Blob CSS DOMException DOMParser addEventListener cancelAnimationFrame devicePixelRatio getSelection ' +
        'history matchMedia open removeEventListener requestAnimationFrame sessionStorage',
);
const page = readonly(
    'Blob EventSource XMLHttpRequest document indexedDB localStorage location navigator window',
);

module.exports = [
    { ignores: ['.venv/', 'node_modules/', '.run/', 'build/', 'debian/', 'dist/'] },
    js.configs.recommended,
    {
        languageOptions: { ecmaVersion: 2022, sourceType: 'commonjs', globals: { ...everywhere, ...node } },
        rules: { 'max-len': ['error', { code: 110 }], 'prefer-const': 'error', eqeqeq: 'error' },
    },
    {
        files: ['*.js', 'server/**/*.js', 'tests/node/**/*.js'],
        rules: {
            'no-shadow': 'error',
            'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
            'no-use-before-define': ['error', { functions: false, classes: false }],
            strict: ['error', 'global'],
        },
    },
    // Files that hold functions for a page, or are served to one.
    {
        files: [
            'server/{*_page,compatibility,in_page,page_calls,passkey_screen}.js',
            'server/{surface_check,upstream,whatsapp}.js',
            'tests/integration/played_extension.js',
            'tests/node/{client,passkey_page,passkey_screen}.test.js',
            'tests/standin/**/*.js',
        ],
        languageOptions: { globals: page },
    },
    {
        files: ['extension/**/*.js'],
        languageOptions: {
            sourceType: 'script',
            globals: { ...page, ...browser, ...readonly('PublicKeyCredential chrome') },
        },
        rules: {
            'no-shadow': 'error',
            'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
            'no-use-before-define': ['error', { functions: false, classes: false }],
            strict: ['error', 'global'],
        },
    },
    {
        files: ['**/*.mjs'],
        languageOptions: { sourceType: 'module', globals: { ...page, ...browser } },
        rules: {
            'max-len': ['error', { code: 110, ignoreStrings: true }],
            'no-shadow': 'error',
            'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
            'no-use-before-define': ['error', { functions: false, classes: false, variables: false }],
        },
    },
    {
        // For the console of another site, with the options of one request in place of the word.
        files: ['waportd/web/snippet.js'],
        languageOptions: { globals: { ...page, ...readonly('PublicKeyCredential __OPTIONS__') } },
    },
];
