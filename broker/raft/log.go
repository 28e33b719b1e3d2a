package raft

import (
	"context"
	"fmt"
	stdlog "log"
	"log/slog"
	"strings"
	"sync"

	"github.com/lni/dragonboat/v4/logger"
)

// levels maps what dragonboat calls important to what an operator does: its
// Info lines are many per shard, so they are debug lines here.
type lineLogger struct {
	log *slog.Logger
}

func (l lineLogger) SetLevel(logger.LogLevel) {}

func (l lineLogger) line(level slog.Level, format string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	l.log.Log(context.Background(), level, "raft library", "text", fmt.Sprintf(format, args...))
}

func (l lineLogger) Debugf(format string, args ...any) { l.line(slog.LevelDebug-4, format, args) }
func (l lineLogger) Infof(format string, args ...any)  { l.line(slog.LevelDebug, format, args) }
func (l lineLogger) Warningf(format string, args ...any) {
	l.line(slog.LevelDebug, format, args)
}
func (l lineLogger) Errorf(format string, args ...any) { l.line(slog.LevelError, format, args) }

// Panicf must not return: dragonboat relies on it to stop the process.
func (l lineLogger) Panicf(format string, args ...any) {
	l.line(slog.LevelError, format, args)
	panic(fmt.Sprintf(format, args...))
}

// UseLogger routes dragonboat's process-wide logging, and Go's standard logger,
// into log; without it both write to stderr in their own formats. dragonboat's goes
// to the first log given in a process.
func UseLogger(log *slog.Logger) {
	useLogger.Do(func() {
		logger.SetLoggerFactory(func(pkg string) logger.ILogger {
			return lineLogger{log: log.With("package", pkg)}
		})
	})
	stdlog.SetFlags(0)
	stdlog.SetOutput(standardLines{log})
}

// useLogger: the library panics when it is given a second one.
var useLogger sync.Once

// standardLines takes what comes by Go's standard logger, line by line.
type standardLines struct{ log *slog.Logger }

// Write implements io.Writer.
func (l standardLines) Write(line []byte) (int, error) {
	l.log.Warn("standard log", "text", strings.TrimSpace(string(line)))
	return len(line), nil
}
