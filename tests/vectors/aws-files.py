"""What botocore makes of AWS files, variables, times and endpoints: prints aws-files.json.

The versions are those of tests/clients/python/moto-requirements.txt; tests/it/botocore.rs runs this again and compares.
No call is made: each provider that would make one is replaced, and says what it was told.
"""

import datetime
import json
import os
import pathlib
import sys
import tempfile

import botocore.credentials as credentials
import botocore.loaders
import botocore.session
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.endpoint_provider import EndpointProvider
from dateutil.parser import parse as parse_time

KEYS = "aws_access_key_id = AKID{0}\naws_secret_access_key = secret{0}\n"


def keys(name, more=""):
    return f"[{name}]\n" + KEYS.format(name.upper().replace(" ", "")) + more


ROLE = "role_arn = arn:aws:iam::123456789012:role/{}\n"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "secretenv"}
SSO = "sso_account_id = 123456789012\nsso_role_name = dev\n"
CORP = "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n"


def case(name, config="", shared="", env=None, profile=None):
    """`config` and `shared` are the files' texts, with one character for each byte."""
    return {"name": name, "config": config, "credentials": shared, "env": env or {}, "profile": profile}


def utf8(text):
    return text.encode().decode("latin-1")


CASES = [
    # Syntax.
    case("plain", "[default]\nregion = eu-central-1\n", keys("default")),
    case("indented keys", "[default]\n  region = eu-central-1\n  output = json\n", "[default]\n\taws_access_key_id = AKIDTAB\n\taws_secret_access_key = s\n"),
    case("keys indented deeper", "", "[default]\naws_access_key_id = AKID\n  aws_secret_access_key = s\n"),
    case("nested with blanks and comments", "[default]\ns3 =\n\n  # c\n  max = 1\n\n  ; d\n  min = 2\nregion = eu-west-1\n", keys("default")),
    case("nested with a line that is not a key", "[default]\ns3 =\n  max\n", keys("default")),
    case("text behind the title", "[default] more\nregion = eu-west-2\n", "[default] # more\n" + KEYS.format("X")),
    case("two closing brackets", "", "[default]]\n" + KEYS.format("X")),
    case("colon", "[default]\nregion: eu-west-1\n", "[default]\naws_access_key_id: AKID\naws_secret_access_key:s=t\n"),
    case("colon before equals", "", "[default]\naws_access_key_id = AK:ID\naws_secret_access_key = s:t\n"),
    case("empty region", "[default]\nregion =\n", keys("default")),
    case("empty key", "", "[default]\naws_access_key_id =\naws_secret_access_key = s\n"),
    case("empty session token", "", keys("default", "aws_session_token =\n")),
    case("older name of the token", "", keys("default", "aws_session_token = new\naws_security_token = old\n")),
    case("empty older name of the token", "", keys("default", "aws_session_token = new\naws_security_token =\n")),
    case("BOM", "", "\xef\xbb\xbf" + keys("default")),
    case("BOM in config", "\xef\xbb\xbf[default]\nregion = eu-west-1\n", keys("default")),
    case("CRLF", "[default]\r\nregion = eu-west-1\r\n", keys("default").replace("\n", "\r\n")),
    case("CR", "[default]\rregion = eu-west-1\r", keys("default").replace("\n", "\r")),
    case("not UTF-8", "", keys("default", "# \xff\n")),
    case("not UTF-8 in config", "[default]\nregion = \xff\n", keys("default")),
    case("NUL", "", keys("default", "x = \0\n")),
    case("trailing comment", "[default]\nregion = eu-west-1 # here\n", "[default]\naws_access_key_id = AKID ; mine\naws_secret_access_key = s # mine\n"),
    case("comment lines", "# c\n; d\n[default]\n  # e\nregion = eu-west-1\n;f\n", keys("default")),
    case("text before the first title", "region = eu-west-1\n[default]\n", keys("default")),
    case("title without bracket", "[profile dev\nregion = eu-west-1\n", keys("dev"), profile="dev"),
    case("line without a key", "", keys("default", "oops\n")),
    case("value without a name", "", keys("default", "= oops\n")),
    case("section twice", "", keys("default") + keys("default")),
    case("key twice", "", keys("default", "aws_access_key_id = AKIDTWO\n")),
    case("keys in capitals", "[default]\nREGION = eu-west-1\n", "[default]\nAWS_Access_Key_Id = AKID\nAWS_SECRET_ACCESS_KEY = s\n"),
    case("DEFAULT counts everywhere", "[DEFAULT]\nregion = eu-west-3\n[profile dev]\noutput = json\n", "[DEFAULT]\n" + KEYS.format("ALL") + "[dev]\nx = y\n", profile="dev"),
    case("value over two lines", "", "[default]\naws_access_key_id = AKID\naws_secret_access_key = s\n  t\n"),
    case("blank in the value", "", "[default]\naws_access_key_id = AKID\naws_secret_access_key =  s t \n"),
    case("no files"),
    # Names.
    case("quoted name", '[profile "my dev"]\nregion = eu-west-1\n', keys("my dev"), profile="my dev"),
    case("name in single quotes", "[profile 'my dev']\nregion = eu-west-1\n", keys("my dev"), profile="my dev"),
    case("name with a blank, unquoted", "[profile my dev]\nregion = eu-west-1\n", "", profile="my dev"),
    case("escaped blank", "[profile my\\ dev]\nregion = eu-west-1\n", keys("my dev"), profile="my dev"),
    case("letters beyond ASCII", utf8("[profile entwickl\u00e9r]\nregion = eu-west-1\n"), utf8("[entwickl\u00e9r]\n") + KEYS.format("E"), profile="entwickl\u00e9r"),
    case("two blanks", "[profile   dev]\nregion = eu-west-1\n", keys("dev"), profile="dev"),
    case("tab", "[profile\tdev]\nregion = eu-west-1\n", keys("dev"), profile="dev"),
    case("blanks inside the brackets", "[ profile dev ]\nregion = eu-west-1\n", "", profile="dev"),
    case("profile with blanks behind", "[profile dev ]\nregion = eu-west-1\n", keys("dev"), profile="dev"),
    case("profiles", "[profiles dev]\nregion = eu-west-1\n", keys("dev"), profile="dev"),
    case("Profile", "[Profile dev]\nregion = eu-west-1\n", "", profile="dev"),
    case("quote that is not closed", '[profile "dev]\nregion = eu-west-1\n', "", profile="dev"),
    case("bare title in config", "[dev]\nregion = eu-west-1\n", "", profile="dev"),
    case("profile title in credentials", "", "[profile dev]\n" + KEYS.format("X"), profile="dev"),
    case("name in another case", "[profile Dev]\nregion = eu-west-1\n", keys("Dev"), profile="dev"),
    case("default before profile default", "[default]\nregion = eu-west-1\n[profile default]\nregion = eu-west-2\n", keys("default")),
    case("profile default before default", "[profile default]\nregion = eu-west-2\n[default]\noutput = json\n", keys("default")),
    case("Default", "[Default]\nregion = eu-west-1\n", ""),
    # Both files.
    case("credentials file wins", "[default]\nregion = eu-west-1\n" + KEYS.format("CONFIG"), keys("default", "region = eu-west-2\n")),
    case("keys in config", "[default]\n" + KEYS.format("CONFIG"), ""),
    case("token of the other file", "[default]\naws_session_token = t\n", keys("default")),
    case("key without its secret", "", "[default]\naws_access_key_id = AKID\n"),
    case("secret in the other file", "[default]\naws_secret_access_key = s\n", "[default]\naws_access_key_id = AKID\n"),
    case("secret without its key", "", "[default]\naws_secret_access_key = s\n"),
    # Variables.
    case("keys in the environment", "[default]\nregion = eu-west-1\n", keys("default"), ENVIRONMENT),
    case("profile before keys in the environment", "", keys("dev"), ENVIRONMENT, "dev"),
    case("AWS_PROFILE behind keys in the environment", "", keys("dev"), ENVIRONMENT | {"AWS_PROFILE": "dev"}),
    case("AWS_PROFILE", "[profile dev]\nregion = eu-west-1\n", keys("dev"), {"AWS_PROFILE": "dev"}),
    case("AWS_DEFAULT_PROFILE", "", keys("dev"), {"AWS_DEFAULT_PROFILE": "dev"}),
    case("both", "", keys("a") + keys("b"), {"AWS_DEFAULT_PROFILE": "a", "AWS_PROFILE": "b"}),
    case("AWS_PROFILE that is missing", "", keys("default"), {"AWS_PROFILE": "nope"}),
    case("AWS_PROFILE that is missing behind keys", "", "", ENVIRONMENT | {"AWS_PROFILE": "nope"}),
    case("empty AWS_PROFILE", "", keys("default"), {"AWS_PROFILE": ""}),
    case("AWS_SECURITY_TOKEN", env=ENVIRONMENT | {"AWS_SECURITY_TOKEN": "old", "AWS_SESSION_TOKEN": "new"}),
    case("empty AWS_SECURITY_TOKEN", env=ENVIRONMENT | {"AWS_SECURITY_TOKEN": "", "AWS_SESSION_TOKEN": "new"}),
    case("empty AWS_SESSION_TOKEN", env=ENVIRONMENT | {"AWS_SESSION_TOKEN": ""}),
    case("key in the environment without its secret", "", keys("default"), {"AWS_ACCESS_KEY_ID": "AKID"}),
    case("empty key in the environment", "", keys("default"), {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "s"}),
    case("expiration in the environment", env=ENVIRONMENT | {"AWS_CREDENTIAL_EXPIRATION": "2096-01-01 01:00:00.5+01:00"}),
    case("odd expiration in the environment", env=ENVIRONMENT | {"AWS_CREDENTIAL_EXPIRATION": "soon"}),
    case("files below ~", "", "", {"AWS_CONFIG_FILE": "~/other/config", "AWS_SHARED_CREDENTIALS_FILE": "~/other/credentials"}),
    case("files below $HOME", "", "", {"AWS_CONFIG_FILE": "$HOME/other/config", "AWS_SHARED_CREDENTIALS_FILE": "${HOME}/other/credentials"}),
    case("files that do not exist", keys("default"), keys("default"), {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": ""}),
    case("files that are not files", keys("default"), keys("default"), {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/tmp"}),
    # Roles.
    case("role", "[profile r]\n" + ROLE.format("r") + "source_profile = default\n", keys("default"), profile="r"),
    case("role with everything", "[profile r]\n" + ROLE.format("r") + "source_profile = default\nexternal_id = partner/7\nrole_session_name = night\nduration_seconds = 7200\nmfa_serial = arn:aws:iam::123456789012:mfa/me\n", keys("default"), profile="r"),
    case("role of a role", "[profile a]\n" + ROLE.format("a") + "source_profile = b\n[profile b]\n" + ROLE.format("b") + "source_profile = c\n", keys("c"), profile="a"),
    case("keys stop the chain", "[profile a]\n" + ROLE.format("a") + "source_profile = b\n[profile b]\n" + ROLE.format("b") + "source_profile = c\n", keys("b") + keys("c"), profile="a"),
    case("role before own keys", "[profile a]\n" + ROLE.format("a") + "source_profile = b\n", keys("a") + keys("b"), profile="a"),
    case("source is itself", "[profile a]\n" + ROLE.format("a") + "source_profile = a\n", keys("a"), profile="a"),
    case("source is itself without keys", "[profile a]\n" + ROLE.format("a") + "source_profile = a\n", profile="a"),
    case("loop", "[profile a]\n" + ROLE.format("a") + "source_profile = b\n[profile b]\n" + ROLE.format("b") + "source_profile = a\n", profile="a"),
    case("source that is missing", "[profile a]\n" + ROLE.format("a") + "source_profile = b\n", profile="a"),
    case("source without credentials", "[profile a]\n" + ROLE.format("a") + "source_profile = b\n[profile b]\nregion = eu-west-1\n", profile="a"),
    case("empty source", "[profile a]\n" + ROLE.format("a") + "source_profile =\n", profile="a"),
    case("no source", "[profile a]\n" + ROLE.format("a"), profile="a"),
    case("two sources", "[profile a]\n" + ROLE.format("a") + "source_profile = default\ncredential_source = Environment\n", keys("default"), ENVIRONMENT, "a"),
    case("source is the environment", "[profile a]\n" + ROLE.format("a") + "credential_source = Environment\n", "", ENVIRONMENT, "a"),
    case("source is an empty environment", "[profile a]\n" + ROLE.format("a") + "credential_source = Environment\n", profile="a"),
    case("source is EC2", "[profile a]\n" + ROLE.format("a") + "credential_source = Ec2InstanceMetadata\n", profile="a"),
    case("source is ECS", "[profile a]\n" + ROLE.format("a") + "credential_source = EcsContainer\n", "", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}, "a"),
    case("source is ECS elsewhere", "[profile a]\n" + ROLE.format("a") + "credential_source = EcsContainer\n", profile="a"),
    case("source in another case", "[profile a]\n" + ROLE.format("a") + "credential_source = environment\n", "", ENVIRONMENT, "a"),
    case("unknown source", "[profile a]\n" + ROLE.format("a") + "credential_source = Elsewhere\n", profile="a"),
    case("role in the default profile", "[default]\n" + ROLE.format("r") + "source_profile = base\n", keys("base")),
    case("role in the credentials file", "", keys("base") + "[r]\n" + ROLE.format("r") + "source_profile = base\n", profile="r"),
    case("empty session name", "[profile r]\n" + ROLE.format("r") + "source_profile = default\nrole_session_name =\n", keys("default"), profile="r"),
    case("keys in the environment before a role", "[default]\n" + ROLE.format("r") + "source_profile = base\n", keys("base"), ENVIRONMENT),
    # Web identity.
    case("web identity", "[profile w]\n" + ROLE.format("w") + "web_identity_token_file = /run/token\nrole_session_name = ci\n", profile="w"),
    case("web identity without a role", "[profile w]\nweb_identity_token_file = /run/token\n", profile="w"),
    case("web identity of the environment", "", keys("default"), {"AWS_WEB_IDENTITY_TOKEN_FILE": "/run/t", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/w", "AWS_ROLE_SESSION_NAME": "s"}),
    case("web identity of the environment and a profile", "", keys("dev"), {"AWS_WEB_IDENTITY_TOKEN_FILE": "/run/t", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/w"}, "dev"),
    case("web identity of the environment without a role", "", "", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/run/t"}),
    case("empty web identity of the environment", "", keys("default"), {"AWS_WEB_IDENTITY_TOKEN_FILE": ""}),
    case("web identity below a role", "[profile a]\n" + ROLE.format("a") + "source_profile = w\n[profile w]\n" + ROLE.format("w") + "web_identity_token_file = /run/token\n", profile="a"),
    # SSO.
    case("SSO session", "[profile s]\nsso_session = corp\n" + SSO + CORP, profile="s"),
    case("SSO session and the same old keys", "[profile s]\nsso_session = corp\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n" + SSO + CORP, profile="s"),
    case("SSO session and other old keys", "[profile s]\nsso_session = corp\nsso_region = eu-west-2\n" + SSO + CORP, profile="s"),
    case("SSO of the old kind", "[profile s]\nsso_start_url = https://old.awsapps.com/start\nsso_region = us-east-1\n" + SSO, profile="s"),
    case("SSO session that is missing", "[profile s]\nsso_session = nope\n" + SSO + CORP, profile="s"),
    case("SSO session without a role", "[profile s]\nsso_session = corp\nsso_account_id = 123456789012\n" + CORP, profile="s"),
    case("SSO without a region", "[profile s]\nsso_start_url = https://old.awsapps.com/start\n" + SSO, profile="s"),
    case("SSO session for tokens alone", "[profile s]\nsso_session = corp\n" + CORP, keys("s"), profile="s"),
    case("SSO before keys", "[profile s]\nsso_session = corp\n" + SSO + CORP, keys("s"), profile="s"),
    case("SSO below a role", "[profile a]\n" + ROLE.format("a") + "source_profile = s\n[profile s]\nsso_session = corp\n" + SSO + CORP, profile="a"),
    case("SSO session with a quoted name", '[profile s]\nsso_session = my corp\n' + SSO + CORP.replace("corp]", '"my corp"]').replace("session corp", "session corp"), profile="s"),
    # Programs and logins.
    case("process", "[profile p]\ncredential_process = /opt/tool --flag 'a b' \"c d\" e\\ f\n", profile="p"),
    case("process with an open quote", "[profile p]\ncredential_process = /opt/tool 'a\n", profile="p"),
    case("process behind keys", "[profile p]\ncredential_process = /opt/tool\n", keys("p"), profile="p"),
    case("process before keys in config", "[profile p]\ncredential_process = /opt/tool\n" + KEYS.format("P"), profile="p"),
    case("process in the credentials file", "", "[p]\ncredential_process = /opt/tool x\n", profile="p"),
    case("login", "[profile l]\nlogin_session = arn:aws:iam::123456789012:user/me\n", profile="l"),
    case("login before a process", "[profile l]\nlogin_session = me\ncredential_process = /opt/tool\n", profile="l"),
    # The machine.
    case("ECS", env={"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}),
    case("keys before ECS", "", keys("default"), {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/x"}),
    case("profile without credentials", "[profile dev]\nregion = eu-west-1\n", "", {}, "dev"),
    # Endpoints.
    case("endpoint of the profile", "[default]\nendpoint_url = http://localhost:1\n", keys("default")),
    case("endpoint of another profile", "[default]\nregion = eu-west-1\n[profile a]\nendpoint_url = http://localhost:1\n", keys("default")),
    case("services", "[default]\nservices = local\nendpoint_url = http://localhost:1\n[services local]\nssm =\n  endpoint_url = http://localhost:2\nsts =\n  endpoint_url = http://localhost:3\ncloudwatch_logs =\n  endpoint_url = http://localhost:4\nec2 =\n  other = 1\n", keys("default")),
    case("services of the profile in use", "[default]\nservices = a\n[profile dev]\nservices = b\n[services a]\nssm =\n  endpoint_url = http://localhost:1\n[services b]\nssm =\n  endpoint_url = http://localhost:2\n", keys("dev"), profile="dev"),
    case("services of the profile in use, not of its source", ROLE.format("x").join(["[profile a]\nservices = a\n", "source_profile = b\n"]) + "[profile b]\nservices = b\n[services a]\nsts =\n  endpoint_url = http://localhost:1\n[services b]\nsts =\n  endpoint_url = http://localhost:2\n", keys("b"), profile="a"),
    case("services that are missing", "[default]\nservices = nope\n", keys("default")),
    case("variables before services", "[default]\nservices = local\n[services local]\nssm =\n  endpoint_url = http://localhost:1\n", keys("default"), {"AWS_ENDPOINT_URL": "http://localhost:2", "AWS_ENDPOINT_URL_EC2": "http://localhost:3"}),
    case("empty variable", "[default]\nendpoint_url = http://localhost:1\n", keys("default"), {"AWS_ENDPOINT_URL": ""}),
    case("ignored by a variable", "[default]\nendpoint_url = http://localhost:1\n", keys("default"), {"AWS_ENDPOINT_URL": "http://localhost:2", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "TRUE"}),
    case("ignored by the profile", "[default]\nendpoint_url = http://localhost:1\nignore_configured_endpoint_urls = true\n", keys("default")),
    case("FIPS and dual stack", "[default]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = True\n", keys("default")),
    case("FIPS off by a variable", "[default]\nuse_fips_endpoint = true\n", keys("default"), {"AWS_USE_FIPS_ENDPOINT": "false", "AWS_USE_DUALSTACK_ENDPOINT": "true"}),
    case("FIPS of another profile", "[profile a]\nuse_fips_endpoint = true\n", keys("default")),
    case("CA bundle", "[default]\nca_bundle = /etc/a.pem\n", keys("default")),
    case("CA bundle of a variable", "[default]\nca_bundle = /etc/a.pem\n", keys("default"), {"AWS_CA_BUNDLE": "/etc/b.pem"}),
]

TIMES = [
    "2026-11-28T10:11:12Z", "2026-11-28t10:11:12z", "2026-11-28 10:11:12Z", "2026-11-28T10:11:12UTC",
    "2026-11-28T10:11:12 UTC", "2026-11-28T10:11:12GMT", "2026-11-28T10:11:12.123Z", "2026-11-28T10:11:12.123456789Z",
    "2026-11-28T10:11:12,5Z", "2026-11-28T10:11:12+00:00", "2026-11-28T10:11:12-00:00", "2026-11-28T10:11:12+0530",
    "2026-11-28T10:11:12+05:30", "2026-11-28T10:11:12-08", "2026-11-28T10:11Z", "20261128T101112Z",
    "2026-11-28T24:00:00Z", "2026-02-29T10:11:12Z", "2026-13-01T00:00:00Z", "2026-11-28T10:11:60Z", "", "soon",
    "2026-11-28T10:11:12", "2028-02-29T23:59:59Z", "1970-01-01T00:00:00Z",
]  # fmt: skip

REGIONS = [
    "us-east-1", "eu-central-1", "ap-southeast-7", "mx-central-1", "il-central-1", "cn-north-1", "cn-northwest-1",
    "us-gov-east-1", "us-gov-west-1", "us-iso-east-1", "us-iso-west-1", "us-isob-east-1", "eu-isoe-west-1",
    "us-isof-south-1", "us-isof-east-1", "eusc-de-east-1",
]  # fmt: skip


def named(source):
    """An access key that says where it comes from, for what would make a call."""
    return json.dumps(source, sort_keys=True)


def of_keys(key, secret, token):
    if key.startswith("{"):
        return json.loads(key)
    return {"kind": "keys", "key": key, "secret": secret, "token": token or None}


LATER = datetime.datetime(2096, 1, 1, tzinfo=datetime.timezone.utc)


class Sts:
    def __init__(self, given, roles):
        self.given, self.roles = given, roles

    def assume_role(self, **told):
        self.roles.append(told)
        if "aws_access_key_id" in self.given and self.given["aws_access_key_id"] != "ASSUMED":
            given = self.given
            self.roles[0]["source"] = of_keys(given["aws_access_key_id"], given["aws_secret_access_key"], given["aws_session_token"])
        return {"Credentials": {"AccessKeyId": "ASSUMED", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": LATER}}

    def assume_role_with_web_identity(self, RoleArn, RoleSessionName, **_):
        session = None if RoleSessionName.startswith("botocore-session-") else RoleSessionName
        key = named({"kind": "web identity", "role": RoleArn, "session": session, "file": LOADED[-1]})
        return {"Credentials": {"AccessKeyId": key, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": LATER}}


LOADED = []


class TokenLoader:
    def __init__(self, path, **_):
        LOADED.append(path)

    def __call__(self):
        return "token"


def sso(self):
    config = self._load_sso_config()
    if not config:
        return None
    told = {name: config[f"sso_{name}"] for name in ["start_url", "region", "account_id", "role_name"]}
    if "sso_session" in config:
        self._token_provider._load_sso_config()
    return machine({"kind": "sso", "session": config.get("sso_session"), **told})


def login(self):
    profile = self._load_config().get("profiles", {}).get(self._profile_name, {})
    return machine({"kind": "login", "session": profile["login_session"]}) if "login_session" in profile else None


class Process:
    returncode = 0

    def __init__(self, words, **_):
        self.words = words

    def communicate(self):
        key = named({"kind": "process", "words": self.words})
        return json.dumps({"Version": 1, "AccessKeyId": key, "SecretAccessKey": "s"}).encode(), b""


def machine(source):
    return credentials.Credentials(named(source), "s")


credentials.SSOProvider.load = sso
credentials.LoginProvider.load = login
credentials.InstanceMetadataProvider.load = lambda self: machine({"kind": "instance"})
container = credentials.ContainerProvider
container.load = lambda self: machine({"kind": "container"}) if self.ENV_VAR in os.environ or self.ENV_VAR_FULL in os.environ else None
credentials.AssumeRoleWithWebIdentityProvider.__init__.__defaults__ = (None, False, TokenLoader)
credentials.ProcessProvider.__init__.__defaults__ = (Process,)


def refused(error):
    return {"error": type(error).__name__}


def chain(session, roles):
    """The source and the roles, the first one first."""
    credentials._get_client_creator = lambda *_: lambda name, **given: Sts(given, roles)
    found = session.get_credentials()
    frozen = found.get_frozen_credentials()
    if roles:
        return roles[0].pop("source")
    source = of_keys(frozen.access_key, frozen.secret_key, frozen.token)
    expires = getattr(found, "_expiry_time", None)
    if source["kind"] == "keys" and expires is not None:
        source["expires"] = int(expires.timestamp())
    return source


def answer(case, home):
    for name in list(os.environ):
        if name.startswith("AWS_") or name in ("BOTO_CONFIG", "REQUESTS_CA_BUNDLE"):
            del os.environ[name]
    os.environ["HOME"] = home
    os.environ.update(case["env"])
    for folder in [".aws", "other"]:
        pathlib.Path(home, folder).mkdir(exist_ok=True)
    pathlib.Path(home, ".aws/config").write_bytes(case["config"].encode("latin-1"))
    pathlib.Path(home, ".aws/credentials").write_bytes(case["credentials"].encode("latin-1"))
    pathlib.Path(home, "other/config").write_text("[default]\nregion = eu-south-1\n")
    pathlib.Path(home, "other/credentials").write_text(keys("default"))
    session = botocore.session.Session(profile=case["profile"])
    told = {}
    try:
        told["region"] = session.get_config_variable("region")
    except Exception as error:
        told["region"] = refused(error)
    roles = []
    # What comes before the first call of STS may be told without roles: a prompt for a code is one.
    credentials.AssumeRoleCredentialFetcher.__init__.__defaults__ = (None, lambda prompt: "123456", None, None)
    prompts = credentials.AssumeRoleProvider.__init__.__defaults__
    credentials.AssumeRoleProvider.__init__.__defaults__ = (lambda prompt: "123456", *prompts[1:])
    try:
        session.get_scoped_config()
        told["credentials"] = chain(session, roles)
    except Exception as error:
        told["credentials"] = refused(error)
    if "error" not in told["credentials"]:
        told["roles"] = [
            {
                "arn": role["RoleArn"],
                "external_id": role.get("ExternalId"),
                "session": None if role["RoleSessionName"].startswith("botocore-session-") else role["RoleSessionName"],
                "duration": role.get("DurationSeconds"),
                "mfa_serial": role.get("SerialNumber"),
            }
            for role in roles
        ]
    told["settings"] = settings(session)
    return told


def settings(session):
    try:
        get = session.get_config_variable
        urls = {}
        if not get("ignore_configured_endpoint_urls"):
            for name in ["ssm", "rds", "sts", "sso", "sso-oidc", "ec2", "ecs", "iam", "logs"]:
                found = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), name)
                url = found.provide()
                if url:
                    urls[found._transformed_service_id] = url
        return {
            "urls": urls,
            "fips": bool(get("use_fips_endpoint")),
            "dual_stack": bool(get("use_dualstack_endpoint")),
            "ca_bundle": get("ca_bundle"),
        }
    except Exception as error:
        return refused(error)


def time(text):
    try:
        parsed = parse_time(text)
    except (ValueError, OverflowError):
        return None
    # One without an offset cannot be compared with the clock.
    return int(parsed.timestamp()) if parsed.tzinfo else None


def endpoints():
    loader = botocore.loaders.create_loader()
    partitions = loader.load_data("partitions")
    for service in ["ec2", "ecs", "iam", "logs", "sts"]:
        rules = EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), partitions)
        for region in REGIONS:
            for fips in [False, True]:
                for dual_stack in [False, True]:
                    told = {"Region": region, "UseFIPS": fips, "UseDualStack": dual_stack}
                    if service == "sts":
                        told["UseGlobalEndpoint"] = False
                    found = rules.resolve_endpoint(**told)
                    schemes = found.properties.get("authSchemes", [{}])
                    signed_for = schemes[0].get("signingRegion", region)
                    yield [service, region, fips, dual_stack, found.url, signed_for]


with tempfile.TemporaryDirectory() as home:
    files = [case | {"botocore": answer(case, home)} for case in CASES]
json.dump(
    {"files": files, "times": [[text, time(text)] for text in TIMES], "endpoints": list(endpoints())},
    sys.stdout, indent=1,
)  # fmt: skip
print()
