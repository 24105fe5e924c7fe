package main

// product is a service of the cloud as the CLI's metadata describes it.
type product struct {
	version string
	// regional products have an endpoint in each region, the others one for all.
	regional bool
	apis     map[string]api
}

// api has the parameters of an operation; true are those that the CLI wants.
type api map[string]bool

// products are the CLI's, by the name that is typed, as far as the documents use them.
var products = map[string]product{
	"ram": {version: "2015-05-01", apis: map[string]api{
		"CreateRole":         {"RoleName": false, "AssumeRolePolicyDocument": false, "Description": false, "MaxSessionDuration": false, "Tag": false},
		"CreatePolicy":       {"PolicyName": false, "PolicyDocument": false, "Description": false, "Tag": false},
		"AttachPolicyToRole": {"PolicyType": false, "PolicyName": false, "RoleName": false, "ResourceGroupId": false},
	}},
	"kms": {version: "2016-01-20", regional: true, apis: map[string]api{
		"CreateSecret": {
			"SecretName": true, "SecretData": true, "VersionId": true, "SecretDataType": false, "SecretType": false, "Tags": false, "Description": false,
			"DKMSInstanceId": false, "EncryptionKeyId": false, "ExtendedConfig": false, "EnableAutomaticRotation": false, "RotationInterval": false,
		},
	}},
}

// endpoint is the product's public host.
func (p product) endpoint(name, region string) string {
	if p.regional {
		name += "." + region
	}
	return name + ".aliyuncs.com"
}
