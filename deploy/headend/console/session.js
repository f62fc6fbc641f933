// Who is signed in, and what is wrong with the service just now. Tells of "change".

/** fetch(), whose failure is said in words. */
export async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service does not answer.");
  }
}

class Session extends EventTarget {
  #token = sessionStorage.getItem("token");
  #client = sessionStorage.getItem("client") ?? "";
  #notice = "";

  get token() { return this.#token; }
  get client() { return this.#client; }
  get notice() { return this.#notice; }

  /** OAuth 2 client credentials; false where they are not known. */
  async signIn(client, secret) {
    const body = new URLSearchParams({ grant_type: "client_credentials", client_id: client, client_secret: secret });
    const answer = await send("/oauth/token", { method: "POST", body });
    if (answer.status >= 500) throw new Error(`The service has trouble: ${answer.status}`);
    if (!answer.ok) return false;
    this.#keep((await answer.json()).access_token, client);
    return true;
  }

  signOut() { this.#keep(null, ""); }

  /** What everybody should see; "" once it is over. */
  notify(notice) {
    if (notice === this.#notice) return;
    this.#notice = notice;
    this.dispatchEvent(new Event("change"));
  }

  #keep(token, client) {
    [this.#token, this.#client, this.#notice] = [token, client, ""];
    for (const [name, value] of [["token", token], ["client", client]]) {
      value ? sessionStorage.setItem(name, value) : sessionStorage.removeItem(name);
    }
    this.dispatchEvent(new Event("change"));
  }
}

export const session = new Session();
