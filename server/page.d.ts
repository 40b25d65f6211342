/**
 * What functions for WhatsApp's page find in it: its own modules, the library's, and what we put in.
 */

interface Window {
    /** WhatsApp's modules, by name. */
    require(name: string): any;
    /** WhatsApp's build; missing where the page is none of WhatsApp's. */
    Debug?: any;
    /** What whatsapp-web.js puts into the page. */
    WWebJS: any;
    /** What compatibility.js and our other functions put into it. */
    waportd: any;
    /** Reports to this process what happens in the page. */
    waportdTell: (...args: any[]) => Promise<any>;
    CredentialsContainer?: any;
}
