// Command lifeboat carries Apache Spark's shuffle data off a node that is about to go: as a daemon
// that waits for the notice (agent), or now, by hand (rescue).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
)

// envListen is where --listen is looked for when it is not given: what is started in the agent's container
// (kubectl exec) then finds the agent, whose address is another one on each node.
const envListen = "LIFEBOAT_LISTEN"

// Exit codes beside those of report.Outcome.
const (
	exitOther = 1
	exitUsage = 2
)

const exitCodes = `Exit codes:
  0  all saved, or nothing to save
  1  anything else went wrong
  2  bad usage or configuration
  3  some map outputs are lost, or only wait in object storage
  4  nothing was saved`

// rescuer is what commands need of the agent.
type rescuer interface {
	Run(ctx context.Context, stop <-chan struct{}) error
	Rescue(ctx context.Context, r agent.Request) (*report.Report, error)
	Salvage(ctx context.Context, r agent.SalvageRequest) (*report.Report, error)
	Adopt(ctx context.Context, r agent.AdoptRequest) (*report.Report, error)
	Inventory(ctx context.Context) ([]agent.ExecutorView, error)
	Look(ctx context.Context) ([]status.Source, string, error)
}

// cli is what all commands share.
type cli struct {
	out, err io.Writer
	open     func(config.Config, agent.Deps) (rescuer, error)

	configPath string
	listen     string // in place of the configuration's; see listenFlag
	format     format
	entered    bool // the command line was understood
}

func main() {
	c := &cli{out: os.Stdout, err: os.Stderr, open: openAgent}
	os.Exit(c.run(context.Background(), os.Args[1:]))
}

func openAgent(cfg config.Config, d agent.Deps) (rescuer, error) { return agent.New(cfg, d) }

// run executes one command line and returns the exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	root := c.root()
	root.SetArgs(args)
	root.SetOut(c.out)
	root.SetErr(c.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var code *exitError
	switch {
	case !c.entered:
		fmt.Fprintf(c.err, "lifeboat: %v\nTry lifeboat --help.\n", err)
		return exitUsage
	case !errors.As(err, &code):
		fmt.Fprintf(c.err, "lifeboat: %v\n", err)
		return exitOther
	case code.err != nil:
		fmt.Fprintf(c.err, "lifeboat: %v\n", code.err)
	}
	return code.code
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lifeboat",
		Short: "Carry Spark shuffle data off a node that is about to go",
		Long: "Lifeboat moves the shuffle data of Apache Spark executors off a spot node before it is taken,\n" +
			"so that nothing has to be computed again.\n\n" + exitCodes,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRun:  func(*cobra.Command, []string) { c.entered = true },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.configPath, "config", "", "configuration file (default "+config.DefaultPath+" if it exists)")
	c.format = formatText
	flags.VarP(&c.format, "output", "o", "text, for eyes, or json")
	root.AddCommand(c.agentCommand(), c.statusCommand(), c.executorsCommand(), c.noticesCommand(), c.rescueCommand(), c.drillCommand(), c.reportCommand(),
		c.salvageCommand(), c.adoptCommand(), c.survivorCommand(), c.objectsCommand(), c.versionCommand())
	return root
}

// exitError ends the command with a code; a nil err says nothing more, because the output has said it all.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usage(err error) error { return &exitError{code: exitUsage, err: err} }

// outcome turns a report's code into the command's.
func outcome(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// listenFlag gives --listen to a command that serves the agent's pages, or asks them.
func (c *cli) listenFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.listen, "listen", os.Getenv(envListen), "host:port of the agent's pages, in place of the configuration's; $"+envListen+" too")
}

// load reads the configuration.
func (c *cli) load() (config.Config, error) {
	cfg, err := config.Load(c.configPath)
	if err != nil {
		return cfg, usage(err)
	}
	if c.listen == "" {
		return cfg, nil
	}
	cfg.Listen = c.listen
	if err := cfg.Validate(); err != nil {
		return cfg, usage(fmt.Errorf("--listen, or $%s: %w", envListen, err))
	}
	return cfg, nil
}
