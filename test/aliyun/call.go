package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/alibabacloud-go/tea/tea"
)

// Milliseconds after which a call is given up.
const (
	connectTimeout = 10_000
	readTimeout    = 20_000
)

// profile is in whose name and in which region the CLI calls.
type profile struct {
	accessKeyID, accessKeySecret, region string
}

// profileOf reads the CLI's environment variables.
func profileOf(getenv func(string) string) (profile, error) {
	p := profile{
		accessKeyID:     getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"),
		accessKeySecret: getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
		region:          getenv("ALIBABA_CLOUD_REGION_ID"),
	}
	switch {
	case p.region == "":
		return profile{}, errors.New("region can't be empty: set ALIBABA_CLOUD_REGION_ID")
	case p.accessKeyID == "" || p.accessKeySecret == "":
		return profile{}, errors.New("access key can't be empty: set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET")
	}
	return p, nil
}

// send makes the call and returns the answer's body.
func (c command) send(p profile) (any, error) {
	of := products[c.product]
	endpoint := of.endpoint(c.product, p.region)
	client, err := openapi.NewClient(&openapiutil.Config{
		Endpoint: &endpoint, AccessKeyId: &p.accessKeyID, AccessKeySecret: &p.accessKeySecret,
		SignatureAlgorithm: dara.String("v2"), // the RPC style's, which the CLI uses
		ConnectTimeout:     dara.Int(connectTimeout), ReadTimeout: dara.Int(readTimeout),
	})
	if err != nil {
		return nil, err
	}
	query := map[string]*string{}
	for name, value := range c.parameters {
		query[name] = &value
	}
	answer, err := client.CallApi(&openapiutil.Params{
		Action: &c.api, Version: &of.version, Protocol: dara.String("HTTPS"), Pathname: dara.String("/"), Method: dara.String("POST"),
		AuthType: dara.String("AK"), Style: dara.String("RPC"), ReqBodyType: dara.String("formData"), BodyType: dara.String("json"),
	}, &openapiutil.OpenApiRequest{Query: query}, &dara.RuntimeOptions{})
	if err != nil {
		return nil, refusal(err)
	}
	return answer["body"], nil
}

// refusal words an error of the cloud as the CLI does.
func refusal(err error) error {
	var refused *tea.SDKError
	if !errors.As(err, &refused) {
		return err
	}
	var said struct{ Recommend, RequestID, Message string }
	if json.Unmarshal([]byte(tea.StringValue(refused.Data)), &said) != nil {
		return err
	}
	return fmt.Errorf("SDK.ServerError\nErrorCode: %s\nRecommend: %s\nRequestId: %s\nMessage: %s",
		tea.StringValue(refused.Code), said.Recommend, said.RequestID, said.Message)
}

// show prints an answer as the CLI does: with its keys sorted, a tab for each level.
func show(w io.Writer, answer any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "\t")
	return encoder.Encode(answer)
}
