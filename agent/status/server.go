package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

const (
	readTimeout   = 5 * time.Second
	writeTimeout  = 15 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 16 << 10
	shutdownGrace = 2 * time.Second
)

// Reporter says how the agent is at this moment. It is asked for each request, by many at once.
type Reporter interface {
	Status(ctx context.Context) Status
}

// Options are what a server needs.
type Options struct {
	Addr     string // host:port; port 0 takes a free one
	Gatherer prometheus.Gatherer
	Reporter Reporter
	Log      *zap.Logger
}

// Server serves /metrics, /healthz, /readyz and /status. Make one with Listen.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen takes the address, so that a taken port is known before anything else begins.
func Listen(ctx context.Context, o Options) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("status server: %w", err)
	}
	return &Server{
		listener: l,
		http: &http.Server{
			Handler:           Handler(o),
			ReadTimeout:       readTimeout,
			ReadHeaderTimeout: readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          zap.NewStdLog(o.Log.Named("http")),
		},
	}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers until ctx ends, lets running answers finish for a moment, and returns nil; any other
// end is an error.
func (s *Server) Serve(ctx context.Context) error {
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if err := s.http.Shutdown(grace); err != nil {
			_ = s.http.Close()
		}
		close(stopped)
	})
	err := s.http.Serve(s.listener)
	if !unhook() && errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("status server: %w", err)
}

// Handler routes the four pages. Every method but GET and HEAD is refused.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog: zap.NewStdLog(o.Log.Named("metrics")), MaxRequestsInFlight: 4, Timeout: writeTimeout - time.Second,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		reasons := o.Reporter.Status(r.Context()).NotReady()
		code := http.StatusOK
		if len(reasons) > 0 {
			code = http.StatusServiceUnavailable
		}
		writeJSON(w, code, map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		s := o.Reporter.Status(r.Context())
		if s.Sources == nil {
			s.Sources = []Source{}
		}
		if s.Notices == nil {
			s.Notices = []Notice{}
		}
		if s.Executors == nil {
			s.Executors = []Executor{}
		}
		writeJSON(w, http.StatusOK, s)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n'))
}
