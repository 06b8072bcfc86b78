package azure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

var errCredentials = errors.New("no usable credentials for Azure Storage: give the agent a workload identity or managed " +
	"identity with the role Storage Blob Data Contributor")

// connect makes the client of a container with the credentials that are given, or those of the place where it runs.
func connect(address, account string, secure bool, c bucket.Credentials, o *container.ClientOptions) (*container.Client, error) {
	switch {
	case c.Token != "":
		if !secure {
			return nil, errPlain
		}
		return container.NewClientWithNoCredential(address+"?"+strings.TrimPrefix(c.Token, "?"), o)
	case c.ID == "" && c.Secret != "":
		key, err := container.NewSharedKeyCredential(account, c.Secret)
		if err != nil {
			return nil, errors.New("the account key is not valid base64")
		}
		return container.NewClientWithSharedKeyCredential(address, key, o)
	case !secure:
		return nil, errPlain
	}
	identity, err := newIdentity(c, &o.ClientOptions)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", errCredentials, err)
	}
	return container.NewClient(address, identity, o)
}

var errPlain = errors.New("over plain http only an account key is used: it is not sent, only signs")

// identity is a credential whose errors say what to do.
type identity struct{ azcore.TokenCredential }

// GetToken is azcore.TokenCredential's.
func (i identity) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := i.TokenCredential.GetToken(ctx, o)
	if err == nil || ctx.Err() != nil {
		return token, err
	}
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) && failed.RawResponse != nil && failed.RawResponse.StatusCode/100 == 5 {
		return token, errors.New("the token service answers " + failed.RawResponse.Status)
	}
	return token, &deniedError{err}
}

// deniedError is why there is no token. It is marked as final for the client: trying again is for callers to decide.
type deniedError struct{ err error }

func (e *deniedError) Error() string { return fmt.Sprintf("%v: %v", errCredentials, firstLine(e.err)) }
func (e *deniedError) Unwrap() error { return e.err }

// NonRetriable is azcore's mark.
func (*deniedError) NonRetriable() {}

// newIdentity is the part of Azure's default chain that starts no other programs.
func newIdentity(c bucket.Credentials, o *azcore.ClientOptions) (azcore.TokenCredential, error) {
	own := azcore.ClientOptions{
		Cloud:     o.Cloud,
		Transport: sender{bucket.NewTransport()},
		Retry:     policy.RetryOptions{MaxRetries: 1},
	}
	if c.ID != "" {
		secret, err := azidentity.NewClientSecretCredential(c.Tenant, c.ID, c.Secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: own})
		return identity{secret}, err
	}
	var sources []azcore.TokenCredential
	if env, err := azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: own}); err == nil {
		sources = append(sources, env)
	}
	if workload, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: own}); err == nil {
		sources = append(sources, workload)
	}
	managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: own.Transport}}
	if id := os.Getenv("AZURE_CLIENT_ID"); id != "" {
		managed.ID = azidentity.ClientID(id)
	}
	m, err := azidentity.NewManagedIdentityCredential(managed)
	if err != nil {
		return nil, err
	}
	chain, err := azidentity.NewChainedTokenCredential(append(sources, m), nil)
	return identity{chain}, err
}
