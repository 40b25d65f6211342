'use strict';

const js = require('@eslint/js');

const node = {
    AbortController: 'readonly',
    AbortSignal: 'readonly',
    Buffer: 'readonly',
    URL: 'readonly',
    URLSearchParams: 'readonly',
    __dirname: 'readonly',
    clearInterval: 'readonly',
    clearTimeout: 'readonly',
    console: 'readonly',
    escape: 'readonly',
    fetch: 'readonly',
    module: 'writable',
    performance: 'readonly',
    process: 'readonly',
    require: 'readonly',
    setImmediate: 'readonly',
    setInterval: 'readonly',
    setTimeout: 'readonly',
};
const page = { document: 'readonly', navigator: 'readonly', window: 'readonly' };

module.exports = [
    { ignores: ['node_modules/', '.run/', 'debian/'] },
    js.configs.recommended,
    {
        files: ['whatsapp_server.js', 'eslint.config.js', 'server/**/*.js', 'tests/node/**/*.js'],
        languageOptions: { ecmaVersion: 2022, sourceType: 'commonjs', globals: node },
        rules: {
            'max-len': ['error', { code: 110 }],
            'no-shadow': 'error',
            'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
            'no-use-before-define': ['error', { functions: false, classes: false }],
            'prefer-const': 'error',
            eqeqeq: 'error',
            strict: ['error', 'global'],
        },
    },
    // Functions in here run in the page.
    { files: ['server/whatsapp.js'], languageOptions: { globals: { ...node, ...page } } },
];
