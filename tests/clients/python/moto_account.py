"""moto's server with an account of a few things in it, on a port that the system chooses; says `ready URL BASTION` and serves.

Arguments: none. Ends with its parent: when standard output is closed, or by a signal.
"""

import os
import threading

os.environ.update(
    AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_DEFAULT_REGION="us-east-1",
    MOTO_IAM_LOAD_MANAGED_POLICIES="true", AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null",
)

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://127.0.0.1:{port}"

rds = boto3.client("rds", endpoint_url=url)
ec2 = boto3.client("ec2", endpoint_url=url)

vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
subnets = [
    ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"]["SubnetId"]
    for n, zone in enumerate("ab")
]
rds.create_db_subnet_group(DBSubnetGroupName="own", DBSubnetGroupDescription="own", SubnetIds=subnets)
groups = [
    ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"] for name in ("database", "bastion")
]
ec2.authorize_security_group_ingress(
    GroupId=groups[0],
    IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]},
        {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": groups[1]}]},
    ],
)
image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
bastion = ec2.run_instances(
    ImageId=image, MinCount=1, MaxCount=1, InstanceType="t4g.nano", SubnetId=subnets[0], SecurityGroupIds=groups[1:]
)["Instances"][0]["InstanceId"]
login = dict(MasterUsername="master", MasterUserPassword="not-a-secret")
for name, iam in (("orders", True), ("billing", False)):
    rds.create_db_instance(
        DBInstanceIdentifier=name, Engine="postgres", DBInstanceClass="db.t4g.micro", AllocatedStorage=20,
        DBSubnetGroupName="own", EnableIAMDatabaseAuthentication=iam, VpcSecurityGroupIds=groups[:1], **login,
    )
rds.create_db_cluster(
    DBClusterIdentifier="fleet", Engine="aurora-postgresql", DBSubnetGroupName="own",
    EnableIAMDatabaseAuthentication=True, **login,
)
rds.create_db_instance(
    DBInstanceIdentifier="fleet-1", Engine="aurora-postgresql", DBInstanceClass="db.t4g.medium",
    DBClusterIdentifier="fleet", DBSubnetGroupName="own",
)
print("ready", url, bastion, flush=True)
threading.Event().wait()
