/**
 * What functions for WhatsApp's page find in it: its own modules, the library's, and what is put in by us.
 */

interface Window {
    /** WhatsApp's modules, by name. */
    require(name: string): any;
    /** WhatsApp's build; missing where the page is none of WhatsApp's. */
    Debug?: any;
    /** What whatsapp-web.js puts into the page. */
    WWebJS: any;
    /** What compatibility.js puts into it, and the other functions of ours. */
    waportd: any;
    /** Tells this process of what happens in the page. */
    waportdTell: (...told: any[]) => Promise<any>;
    CredentialsContainer?: any;
}
