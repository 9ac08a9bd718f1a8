# Writes dsql-tokens.json: login tokens of Aurora DSQL as botocore makes them at one fixed second.
import datetime, json, sys
import botocore, botocore.auth, botocore.session
from botocore.credentials import Credentials
NOW = datetime.datetime(2026, 11, 23, 12, 0, 0)
botocore.auth.get_current_datetime = lambda remove_tzinfo=True: NOW if remove_tzinfo else NOW.replace(tzinfo=datetime.timezone.utc)
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ID = "weabcdefghijklmnopqrdqqm2e"
PUBLIC, PRIVATE = ID + ".dsql.eu-central-1.on.aws", ID + ".dsql-fnh4.us-east-1.on.aws"
out = []
for user in ["app_user", "admin"]:
    for host, region in [(PUBLIC, "eu-central-1"), (PRIVATE, "us-east-1")]:
        for session_token in [None, "short/with+plus=and=equals=="]:
            session = botocore.session.get_session()
            session._credentials = Credentials(KEY, SECRET, session_token)
            client = session.create_client("dsql", region_name=region)
            make = client.generate_db_connect_admin_auth_token if user == "admin" else client.generate_db_connect_auth_token
            token = make(Hostname=host, Region=region)
            out.append(dict(user=user, host=host, port=5432, region=region, session_token=session_token, token=token))
json.dump({"made_with": "botocore %s, Client.generate_db_connect_auth_token and Client.generate_db_connect_admin_auth_token with its clock held at `now`; see dsql-tokens.py" % botocore.__version__,
  "now": "2026-11-23T12:00:00Z", "access_key_id": KEY, "secret_access_key": SECRET, "tokens": out}, open(sys.argv[1], "w"), indent=1, ensure_ascii=True)
