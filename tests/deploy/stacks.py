"""Makes the stacks of deploy/aws in a local AWS, and prints what the services themselves then have: a JSON object, `STACK LogicalId` to
type and what was found, null where the service has nothing of it. `stacks.py ENDPOINT FOLDER`.

A stack that says CREATE_COMPLETE proves little here: what counts is what the service answers afterwards.
"""

import base64
import io
import json
import re
import sys
import zipfile

import boto3
from botocore.exceptions import ClientError
from cfnlint.decode import cfn_yaml

ENDPOINT, FOLDER = sys.argv[1:]
ACCOUNT, REGION = "000000000000", "us-east-1"
BUCKET, FUNCTION = f"crosswatch-{ACCOUNT}-{REGION}", "crosswatch-tunnels"
PAGES = "arn:aws:sns:us-east-1:000000000000:crosswatch-pages"
PEER = {"PeerTopicArn": "arn:aws:sns:eu-west-1:000000000000:peer-pages", "PeerTopicKeyArn": "arn:aws:kms:eu-west-1:000000000000:key/peer"}


def client(service):
    return boto3.client(
        service, endpoint_url=ENDPOINT, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )


def attributes(url):
    return client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def role(name):
    iam = client("iam")
    documents = {p: iam.get_role_policy(RoleName=name, PolicyName=p)["PolicyDocument"]
                 for p in iam.list_role_policies(RoleName=name)["PolicyNames"]}
    return {"trust": iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"], "policies": documents}


def alarm(name):
    [found] = client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return {key: found.get(key) for key in ("Namespace", "MetricName", "Threshold", "AlarmActions", "TreatMissingData")}


def group(name):
    [found] = client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return {"size": [found["MinSize"], found["MaxSize"]], "instances": len(found["Instances"])}


def template(name):
    [version] = client("ec2").describe_launch_template_versions(LaunchTemplateId=name)["LaunchTemplateVersions"]
    data = version["LaunchTemplateData"]
    script = base64.b64decode(data["UserData"]).decode()
    return {"metadata": data.get("MetadataOptions"), "key": data.get("KeyName"), "script": script}


def security_group(name):
    [found] = client("ec2").describe_security_groups(GroupIds=[name])["SecurityGroups"]
    ways = {"in": "IpPermissions", "out": "IpPermissionsEgress"}
    return {way: sorted((rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort")) for rule in found[of])
            for way, of in ways.items()}


def volume(name):
    [found] = client("ec2").describe_volumes(VolumeIds=[name])["Volumes"]
    return {"encrypted": found["Encrypted"], "zone": found["AvailabilityZone"], "size": found["Size"]}


def function(name):
    found = client("lambda").get_function(FunctionName=name)
    return {key: found["Configuration"].get(key) for key in ("Runtime", "Architectures", "Timeout")} | {
        "concurrency": found.get("Concurrency", {}).get("ReservedConcurrentExecutions")
    }


LOOK = {
    "AWS::SQS::Queue": attributes,
    "AWS::SNS::Topic": lambda arn: client("sns").get_topic_attributes(TopicArn=arn)["Attributes"],
    "AWS::SNS::Subscription": lambda arn: [
        [found["Protocol"], found["Endpoint"]]
        for found in client("sns").list_subscriptions()["Subscriptions"] if found["SubscriptionArn"] == arn
    ],
    "AWS::KMS::Key": lambda key: json.loads(client("kms").get_key_policy(KeyId=key, PolicyName="default")["Policy"]),
    "AWS::IAM::Role": role,
    "AWS::IAM::InstanceProfile": lambda name: [
        role["RoleName"] for role in client("iam").get_instance_profile(InstanceProfileName=name.split("/")[-1])["InstanceProfile"]["Roles"]
    ],
    "AWS::S3::Bucket": lambda name: {
        "versioning": client("s3").get_bucket_versioning(Bucket=name).get("Status"),
        "public": client("s3").get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
    },
    "AWS::S3::BucketPolicy": lambda name: json.loads(client("s3").get_bucket_policy(Bucket=BUCKET)["Policy"]),
    # These two are attributes of what they are for: looked for there.
    "AWS::SQS::QueuePolicy": lambda name: "an attribute of the queue",
    "AWS::SNS::TopicPolicy": lambda name: "an attribute of the topic",
    "AWS::EC2::Volume": volume,
    "AWS::EC2::SecurityGroup": security_group,
    "AWS::EC2::LaunchTemplate": template,
    "AWS::AutoScaling::AutoScalingGroup": group,
    "AWS::CloudWatch::Alarm": alarm,
    "AWS::CloudWatch::Dashboard": lambda name: json.loads(client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"]),
    "AWS::Lambda::Function": function,
    "AWS::Lambda::Permission": lambda name: json.loads(client("lambda").get_policy(FunctionName=FUNCTION)["Policy"]),
    "AWS::Lambda::EventInvokeConfig": lambda name: client("lambda").get_function_event_invoke_config(
        FunctionName=FUNCTION)["MaximumRetryAttempts"],
    "AWS::Events::Rule": lambda name: client("events").list_targets_by_rule(Rule=name.split("|")[-1])["Targets"],
    "AWS::Logs::LogGroup": lambda name: [
        group["retentionInDays"] for group in client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    ],
}


def without(template, names):
    """The template without these resources; whoever refers to one is given its name."""
    def reach(node):
        if isinstance(node, dict):
            if node.get("Ref") in names:
                return f'absent-{node["Ref"]}'
            return {key: reach(value) for key, value in node.items()}
        if isinstance(node, list):
            return [reach(value) for value in node]
        if isinstance(node, str):
            return re.sub(r"\$\{(\w+)\}", lambda m: f"absent-{m[1]}" if m[1] in names else m[0], node)
        return node
    resources = {name: of for name, of in template["Resources"].items() if name not in names}
    return reach({**template, "Resources": resources})


def create(stack, template, parameters):
    cloudformation = client("cloudformation")
    whole = cfn_yaml.load(f"{FOLDER}/{template}.yaml")
    # It makes no alarm of an expression either.
    unknown = {name for name, of in whole["Resources"].items()
               if of["Type"] in UNKNOWN or (of["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in of["Properties"])}
    for name in unknown:
        SEEN[f"{stack} {name}"] = {"type": whole["Resources"][name]["Type"], "is": None}
    body = json.dumps(without(whole, unknown))
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    cloudformation.create_stack(
        StackName=stack, TemplateBody=body, Parameters=given, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    for resource in cloudformation.describe_stack_resources(StackName=stack)["StackResources"]:
        kind, name = resource["ResourceType"], f'{stack} {resource["LogicalResourceId"]}'
        try:
            SEEN[name] = {"type": kind, "is": LOOK[kind](resource["PhysicalResourceId"])}
        except (ClientError, ValueError, KeyError) as error:
            SEEN[name] = {"type": kind, "is": None}
            print(f"{name}: {error}", file=sys.stderr)
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


# Resource types that the local AWS refuses a whole template for, as it says itself.
UNKNOWN = set()
for kind in LOOK:
    try:
        client("cloudformation").validate_template(TemplateBody=json.dumps({"Resources": {"A": {"Type": kind}}}))
    except ClientError as error:
        if "Unrecognized resource types" in str(error):
            UNKNOWN.add(kind)
SEEN = {}
ec2 = client("ec2")
vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
# The local AWS has none of Amazon's public parameters.
client("ssm").put_parameter(Name="/test/image", Type="String", Value="ami-0123456789abcdef0")
standby = create("standby", "standby", {"Name": "crosswatch-b", "CollectorAccounts": ACCOUNT})
standby = {"PublisherStandbyArn": standby["PublisherQueueArn"], "AlerterStandbyArn": standby["AlerterQueueArn"]}
place = {"Vpc": vpc, "Subnet": subnet, "Zone": "us-east-1a", "Image": "/test/image"}
central = create("central", "central", place | standby | PEER | {
    "PeerAlerterQueueArn": standby["AlerterStandbyArn"],
    "CollectorAccounts": ACCOUNT, "Mail": "oncall@example.com", "Phone": "+15555550100", "Heartbeats": "yes",
})
queues = standby | {key: central[key] for key in ("PublisherQueueArn", "AlerterQueueArn")}
queues["SecondAlerterQueueArn"] = standby["AlerterStandbyArn"]
region = create("region", "region", place | queues | {
    "Site": "us-east-1", "Targets": "10.1.0.0/16", "Collectors": "10.1.0.0/16", "Bucket": central["Bucket"],
    "Volume": "other", "Snapshot": "snap-0a1b2c3d4e5f60718", "CentralRegion": REGION, "VpnConnection": "vpn-0a1b2c3d4e5f60718", "Mail": "oncall@example.com",
})
package = io.BytesIO()
with zipfile.ZipFile(package, "w") as archive:
    archive.writestr("bootstrap", "#!/bin/sh\n")
client("s3").put_object(Bucket=central["Bucket"], Key="crosswatch-lambda.zip", Body=package.getvalue())
function_stack = create("lambda", "lambda", queues | {
    "Site": "tunnels", "CodeBucket": central["Bucket"], "AlarmTopic": PAGES,
    "VpnRoles": "arn:aws:iam::210987654321:role/crosswatch-vpn-reader",
})
create("reader", "reader", {"Collectors": region["CollectorRole"] + "," + function_stack["CollectorRole"]})
print(json.dumps(SEEN, default=str))
