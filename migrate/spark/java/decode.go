package java

import "errors"

// ErrUnexpected is wrapped by errors about a stream that is valid but not the answer that was asked for.
var ErrUnexpected = errors.New("unexpected object")

// DecodeBoolean reads an answer that is a java.lang.Boolean.
func DecodeBoolean(data []byte) (bool, error) { return false, ErrUnexpected }

// DecodePeers reads the answer to GetPeers.
func DecodePeers(data []byte) ([]BlockManagerID, error) { return nil, ErrUnexpected }

// DecodeAppConfig reads the answer to RetrieveSparkAppConfig.
func DecodeAppConfig(data []byte) (map[string]string, error) { return nil, ErrUnexpected }
