'use strict';
(() => {
  // The server renders the page; this asks for it again, and changes in place what differs: focus, selection and opened details stay.
  const INTERVAL = 2000;
  const LONGEST_PAUSE = 30000;
  const ATTEMPTS = 6;
  const root = document.documentElement;
  const page = document.getElementById('page');
  const link = document.getElementById('link');
  const said = document.getElementById('said');
  let seen = new Date();
  let failures = 0;
  let timer = 0;
  let request = null;

  // Part of a selection: to change it would take the selection away.
  const held = (node) => {
    const selection = window.getSelection();
    return selection !== null && !selection.isCollapsed && selection.containsNode(node, true);
  };

  const attributes = (old, now) => {
    for (const { name } of [...old.attributes]) {
      // The reader opens and closes details.
      if (name !== 'open' && !now.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  };

  const same = (old, now) => old.nodeName === now.nodeName && (old.id || '') === (now.id || '');

  const change = (old, now) => {
    if (old.isEqualNode(now)) return;
    if (now.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== now.nodeValue && !held(old)) old.nodeValue = now.nodeValue;
      return;
    }
    attributes(old, now);
    const wanted = new Set([...now.children].map((child) => child.id).filter(Boolean));
    const named = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = old.firstChild;
    const drop = () => {
      const next = at.nextSibling;
      if (!held(at)) at.remove();
      at = next;
    };
    for (const child of [...now.childNodes]) {
      while (at && at.id && !wanted.has(at.id)) drop();
      const found = child.id ? named.get(child.id) : at;
      if (found && same(found, child)) {
        if (found !== at) old.insertBefore(found, at);
        change(found, child);
        at = found.nextSibling;
      } else {
        old.insertBefore(document.importNode(child, true), at);
      }
    }
    while (at) drop();
  };

  const clock = (time) => time.toLocaleTimeString();

  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  const again = (pause) => {
    clearTimeout(timer);
    timer = setTimeout(load, pause);
  };

  const answered = (loaded) => {
    const now = loaded && loaded.getElementById('page');
    if (!now) return failed();
    if (loaded.documentElement.dataset.process !== root.dataset.process) return location.reload();
    failures = 0;
    seen = new Date();
    root.classList.remove('stale');
    say(link, '');
    change(page, now);
    if (document.title !== loaded.title) document.title = loaded.title;
    again(INTERVAL);
  };

  const failed = () => {
    failures += 1;
    root.classList.add('stale');
    if (page.dataset.phase === 'draining') {
      say(link, `rdsgate has ended. The page shows its state at ${clock(seen)}.`);
      return;
    }
    if (failures < ATTEMPTS) {
      say(link, `rdsgate does not answer. The page shows its state at ${clock(seen)}, and keeps asking for a while.`);
      again(Math.min(INTERVAL * 2 ** failures, LONGEST_PAUSE));
      return;
    }
    say(link, `rdsgate does not answer any more. The page shows its state at ${clock(seen)}. `);
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Ask again';
    button.addEventListener('click', load);
    link.append(button);
  };

  function load() {
    clearTimeout(timer);
    if (request || document.hidden) return;
    request = new XMLHttpRequest();
    request.open('GET', location.pathname);
    request.responseType = 'document';
    request.timeout = 8000;
    request.addEventListener('loadend', () => {
      const { status, response } = request;
      request = null;
      if (status === 200) answered(response);
      else failed();
    });
    request.send();
  }

  const copied = (button) => {
    button.textContent = 'Copied';
    said.textContent = '';
    said.textContent = `Copied. ${button.getAttribute('aria-label')}`;
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  };

  document.addEventListener('click', (event) => {
    const button = event.target instanceof Element ? event.target.closest('button[data-copy]') : null;
    const source = button && document.getElementById(button.dataset.copy);
    if (!source) return;
    const select = () => {
      const details = source.closest('details');
      if (details) details.open = true;
      window.getSelection().selectAllChildren(source);
      said.textContent = 'The browser does not let the page copy. The text is selected: copy it with the keyboard.';
    };
    if (navigator.clipboard) navigator.clipboard.writeText(source.textContent).then(() => copied(button), select);
    else select();
  });

  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) load();
  });
  root.classList.add('js');
  again(INTERVAL);
})();
