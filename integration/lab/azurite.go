package lab

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Azurite starts Azurite, which keeps blobs in memory, with one container. The Storage's Key is the account, its
// Endpoint ends in that.
func (s *Servers) Azurite(ctx context.Context) (*Storage, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	const account = "lifeboat"
	address := "127.0.0.1:" + port
	v := &Storage{
		Endpoint: "http://" + address + "/" + account, Bucket: storageBucket,
		Key: account, Secret: base64.StdEncoding.EncodeToString([]byte(storageSecret)),
	}
	v.proc, err = s.start(ctx, server{
		tool: "azurite", program: "azurite-blob",
		args: []string{
			"--blobHost", "127.0.0.1", "--blobPort", port, "--inMemoryPersistence", "--disableTelemetry", "--silent",
			"--skipApiVersionCheck", // the client is newer than what this version knows
		},
		env: []string{"AZURITE_ACCOUNTS=" + v.Key + ":" + v.Secret},
		answers: func(ctx context.Context) bool {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				conn.Close()
			}
			return err == nil
		},
	})
	if err != nil {
		return nil, err
	}
	return v, v.createContainer(ctx)
}

// createContainer signs the one request that tests need besides those of the product, as Microsoft's page "Authorize
// with Shared Key" says.
func (v *Storage) createContainer(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, v.Endpoint+"/"+v.Bucket+"?restype=container", http.NoBody)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Format(http.TimeFormat)
	const version = "2021-12-02"
	req.Header.Set("X-Ms-Date", now)
	req.Header.Set("X-Ms-Version", version)
	text := fmt.Sprintf("PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:%s\n/%s/%s/%s\nrestype:container",
		now, version, v.Key, v.Key, v.Bucket)
	key, err := base64.StdEncoding.DecodeString(v.Secret)
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	req.Header.Set("Authorization", "SharedKey "+v.Key+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("create container: %s: %s", resp.Status, said)
	}
	return nil
}
