package main

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/lifeboat/lifeboat/agent/config"
)

// daemonLog is the log that the configuration asks for.
func daemonLog(w io.Writer, c config.Log) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, err
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	if c.Format == "console" {
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(enc), zapcore.Lock(zapcore.AddSync(w)), level)), nil
	}
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(zapcore.AddSync(w)), level)), nil
}

// personLog is for commands that somebody watches: their result says what happened, so the log holds
// only what went wrong, unless the configuration asks for everything.
func personLog(w io.Writer, c config.Log) (*zap.Logger, error) {
	if c.Level == "info" {
		c.Level = "warn"
	}
	c.Format = "console"
	return daemonLog(w, c)
}
