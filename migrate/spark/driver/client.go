package driver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// callTimeout caps one question and its answer, beside the caller's context. A driver can pause for
// many seconds to collect garbage.
const callTimeout = 30 * time.Second

// maxLessons bounds how often one message is written anew because the driver has other class numbers:
// no message holds more than two classes.
const maxLessons = 3

// Client speaks with a driver over its RPC port. Methods may be called by many goroutines at once. A
// connection that broke is replaced at the next call.
type Client struct {
	dialer  wire.Dialer
	options wire.Options
	host    string // as Spark writes it, IPv6 in brackets
	port    int

	mu      sync.Mutex
	dialect java.Dialect
	conn    *wire.Conn // nil before the first and after Close
	closed  bool
}

// Dial connects to the driver of a driver URL (see Address). An error wraps ErrGone when nothing
// listens there.
func Dial(ctx context.Context, d wire.Dialer, driverURL string, dialect java.Dialect, o wire.Options) (*Client, error) {
	host, port, err := Address(driverURL)
	if err != nil {
		return nil, err
	}
	c := &Client{dialer: d, options: o, host: bracketed(host), port: port, dialect: dialect}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := c.connection(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the connection, and with it the calls that wait for an answer.
func (c *Client) Close() error {
	c.mu.Lock()
	conn := c.conn
	c.conn, c.closed = nil, true
	c.mu.Unlock()
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// Dialect is the one given to Dial, with what the driver's refusals have taught since.
func (c *Client) Dialect() java.Dialect {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialect
}

// Properties asks for all Spark properties of the application, for an executor with this resource
// profile (0 is the default). They may hold passwords: never log or store them as a whole.
func (c *Client) Properties(ctx context.Context, profile int) (map[string]string, error) {
	reply, err := c.ask(ctx, schedulerEndpoint, func(d java.Dialect) []byte { return d.RetrieveSparkAppConfig(profile) })
	if err != nil {
		return nil, fmt.Errorf("properties from %s: %w", c.address(), err)
	}
	defer clear(reply) // it also holds the key of I/O encryption
	properties, err := java.DecodeAppConfig(reply)
	if err != nil {
		return nil, fmt.Errorf("properties from %s: %w", c.address(), classify(err))
	}
	return properties, nil
}

// Peers asks for the living executors that are not leaving, as ask's peers. The answer never holds ask
// itself, and it is empty when ask is not exactly what the driver knows under that executor: an empty
// answer proves nothing.
func (c *Client) Peers(ctx context.Context, ask java.BlockManagerID) ([]java.BlockManagerID, error) {
	reply, err := c.ask(ctx, blocksEndpoint, func(d java.Dialect) []byte { return d.GetPeers(ask) })
	if err != nil {
		return nil, fmt.Errorf("peers from %s: %w", c.address(), err)
	}
	peers, err := java.DecodePeers(reply)
	if err != nil {
		return nil, fmt.Errorf("peers from %s: %w", c.address(), classify(err))
	}
	return peers, nil
}

// Decommission tells the driver that an executor goes away: it gets no more tasks. It can't be taken
// back. accepted is false when the driver does not know the executor or has marked it already. After
// an error other than ErrGone the driver may have heard it all the same.
func (c *Client) Decommission(ctx context.Context, executorID string) (accepted bool, err error) {
	reply, err := c.ask(ctx, schedulerEndpoint, func(d java.Dialect) []byte { return d.ExecutorDecommissioning(executorID) })
	if err != nil {
		return false, fmt.Errorf("decommission executor %s at %s: %w", executorID, c.address(), err)
	}
	accepted, err = java.DecodeBoolean(reply)
	if err != nil {
		return false, fmt.Errorf("decommission executor %s at %s: %w", executorID, c.address(), classify(err))
	}
	return accepted, nil
}

// UpdateBlock tells the driver that a block lies at a block manager. Many updates at once share one
// connection. accepted is what the driver answers, and true proves nothing: it drops without a word what it does
// not know yet or no more (BlockManagerMasterEndpoint.updateBlockInfo, Spark 3.4 to 4.3).
func (c *Client) UpdateBlock(ctx context.Context, at java.BlockManagerID, block string, memSize, diskSize int64) (accepted bool, err error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("update of %s at %s: %w", block, c.address(), err)
	}
	reply, err := c.ask(ctx, blocksEndpoint, func(d java.Dialect) []byte { return d.UpdateBlockInfo(at, block, memSize, diskSize) })
	if err != nil {
		return fail(err)
	}
	if accepted, err = java.DecodeBoolean(reply); err != nil {
		return fail(classify(err))
	}
	return accepted, nil
}

func (c *Client) address() string { return c.host + ":" + strconv.Itoa(c.port) }

// ask sends a message and returns the payload of its answer. A driver that refuses to read the message
// because it has another number for a class has done nothing with it: its number is learned, and the
// message sent again.
func (c *Client) ask(ctx context.Context, endpoint string, message func(java.Dialect) []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	for lesson := 0; ; lesson++ {
		d := c.Dialect()
		reply, err := conn.Call(ctx, wire.EndpointMessage(c.host, c.port, endpoint, message(d)))
		if err == nil {
			return reply, nil
		}
		if lesson == maxLessons || !c.learn(d, err) {
			return nil, classify(err)
		}
	}
}

// learn takes over what a refusal says about class numbers; false when that is nothing.
func (c *Client) learn(d java.Dialect, refusal error) bool {
	var remote *wire.RemoteError
	if !errors.As(refusal, &remote) {
		return false
	}
	next, outcome := java.Learn(d, remote.Text)
	if outcome != java.Learned {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialect = next
	return true
}

// connection is the living connection, or a new one.
func (c *Client) connection(ctx context.Context) (*wire.Conn, error) {
	c.mu.Lock()
	conn, closed := c.conn, c.closed
	c.mu.Unlock()
	if closed {
		return nil, wire.ErrClosed
	}
	if conn != nil && conn.Err() == nil {
		return conn, nil
	}
	fresh, err := wire.Dial(ctx, c.dialer, wire.Address(c.host, c.port), c.options)
	if err != nil {
		return nil, classify(err)
	}
	return c.adopt(conn, fresh)
}

// adopt puts a fresh connection in the place of the broken one, unless another goroutine was faster.
func (c *Client) adopt(broken, fresh *wire.Conn) (*wire.Conn, error) {
	c.mu.Lock()
	current, closed := c.conn, c.closed
	if !closed && current == broken {
		c.conn = fresh
	}
	c.mu.Unlock()
	switch {
	case closed:
		fresh.Close()
		return nil, wire.ErrClosed
	case current != broken:
		fresh.Close()
		return current, nil
	}
	if broken != nil {
		broken.Close()
	}
	return fresh, nil
}
