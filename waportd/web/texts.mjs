/**
 * The words of a page, in the language that the daemon has chosen for its document. The page loads one file
 * of words before its program, and that file fills them in here.
 */

/** The words of the connect page. */
export const connectText = /** @type {import('./types').Texts} */ ({});

/** The words of the dashboard. */
export const dashboardText = /** @type {import('./types').DashboardTexts} */ ({});

/** Have a page use these words. */
export const fill = (/** @type {object} */ text, /** @type {object} */ words) => Object.assign(text, words);
