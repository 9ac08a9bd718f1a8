# Writes rds-tokens.json: login tokens as botocore makes them at one fixed second.
import datetime, json, sys
import botocore, botocore.auth, botocore.session
from botocore.credentials import Credentials
NOW = datetime.datetime(2026, 11, 23, 12, 0, 0)
botocore.auth.get_current_datetime = lambda remove_tzinfo=True: NOW if remove_tzinfo else NOW.replace(tzinfo=datetime.timezone.utc)
HOST = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
long = "IQoJb3JpZ2luX2VjE" + "".join(alphabet[(i * 37 + i // 7) % 64] for i in range(1981)) + "=="
users = ["app_user", "Mixed Case", "app+iam@example.com", "a&b", "a#b", "a%41b", "a=b", "a/b?c", "a~b", "zo\u00eb", "DOM\\joe", "a$b!*()'", "-._~", "a;b:c,d[e]{f}|g^h`i\"j<k>", "\u7528\u6237"]
cases = [dict(user=u) for u in users]
cases += [
  dict(user="app_user", session_token="short/with+plus=and=equals=="),
  dict(user="app_user", session_token=long),
  dict(user="app_user", port=80),
  dict(user="app_user", port=65535),
  dict(user="app_user", host="a.c1abcdefghij.cn-north-1.rds.amazonaws.com.cn", region="cn-north-1"),
  dict(user="app_user", host="a.cluster-ro-c1abcdefghij.us-gov-west-1.rds.amazonaws.com", region="us-gov-west-1"),
  dict(user="app_user", region="us-east-1", host="a.proxy-c1abcdefghij.us-east-1.rds.amazonaws.com", port=3306),
]
out = []
for case in cases:
    c = dict(host=HOST, port=5432, region="eu-central-1", session_token=None) | case
    session = botocore.session.get_session()
    session._credentials = Credentials(KEY, SECRET, c["session_token"])
    client = session.create_client("rds", region_name=c["region"])
    c["token"] = client.generate_db_auth_token(DBHostname=c["host"], Port=c["port"], DBUsername=c["user"], Region=c["region"])
    out.append(c)
json.dump({"made_with": "botocore %s, Client.generate_db_auth_token with its clock held at `now`; see rds-tokens.py" % botocore.__version__,
  "now": "2026-11-23T12:00:00Z", "access_key_id": KEY, "secret_access_key": SECRET, "tokens": out}, open(sys.argv[1], "w"), indent=1, ensure_ascii=True)
