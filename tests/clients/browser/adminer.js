// Adminer in Chromium, with the settings of docs/guides/tools.md: it refuses an empty password by itself, and any other one works.
// Arguments: URL, the path of Chromium, PORT of rdsgate in front of a MySQL or MariaDB, and perhaps a folder for pictures.
'use strict';

const assert = require('assert');
const { chromium } = require('playwright-core');

const [url, executablePath, port, pictures] = process.argv.slice(2);
const server = `127.0.0.1:${port}`;

async function login(page, password) {
  await page.goto(url);
  await page.selectOption('select[name="auth[driver]"]', 'server');
  await page.fill('input[name="auth[server]"]', server);
  await page.fill('input[name="auth[username]"]', 'app_user');
  await page.fill('input[name="auth[password]"]', password);
  await page.fill('input[name="auth[db]"]', 'appdb');
  await Promise.all([page.waitForNavigation(), page.click('input[type="submit"]')]);
}

async function main() {
  const args = process.getuid() === 0 ? ['--no-sandbox'] : [];
  const browser = await chromium.launch({ executablePath, args });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(120_000);
    await login(page, '');
    assert.match(await page.textContent('body'), /without a password/);
    console.log('ok empty password');

    await login(page, 'x');
    const query = new URLSearchParams({ server, username: 'app_user', db: 'appdb', sql: 'select 6 * 7 as answer, current_user() as me' });
    await page.goto(`${url}?${query}`);
    await Promise.all([page.waitForNavigation(), page.click('input[type="submit"][value="Execute"]')]);
    const cells = await page.locator('#content table td').allTextContents();
    assert.deepStrictEqual(cells.slice(0, 2).map((cell) => cell.trim()), ['42', 'app_user@%']);
    if (pictures) await page.screenshot({ path: `${pictures}/adminer.png` });
    console.log('ok query');
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
