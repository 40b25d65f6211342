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
    'Blob CSS DOMException DOMParser addEventListener devicePixelRatio getSelection history matchMedia ' +
        'open requestAnimationFrame sessionStorage',
);
const page = readonly('EventSource document indexedDB localStorage location navigator window');

module.exports = [
    { ignores: ['.venv/', 'node_modules/', '.run/', 'build/', 'debian/'] },
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
            'server/{chats_page,compatibility,surface_check,upstream,whatsapp}.js',
            'tests/node/client.test.js',
            'tests/standin/**/*.js',
        ],
        languageOptions: { globals: page },
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
];
