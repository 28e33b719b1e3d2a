package raft

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

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

// Panicf must not return: dragonboat relies on it to stop the process. What comes of
// a device that does not take what it is given, a snapshot's file on a full disk,
// ends it in order instead.
func (l lineLogger) Panicf(format string, args ...any) {
	l.line(slog.LevelError, format, args)
	text := fmt.Sprintf(format, args...)
	if fatal := onDeviceError.Load(); fatal != nil && ofDevice(text) {
		(*fatal)(fmt.Errorf("%w: %s", ErrLibrary, text))
		select {}
	}
	panic(text)
}

// ErrLibrary says that the raft library could not write one of its own files. The
// node must stop.
var ErrLibrary = errors.New("raft library failed to write")

// onDeviceError is what the last UseLogger gave.
var onDeviceError atomic.Pointer[func(error)]

// ofDevice tells whether a text ends, or is about, what devices answer to writes.
func ofDevice(text string) bool {
	for _, e := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		if strings.Contains(text, e.Error()) {
			return true
		}
	}
	return false
}

// UseLogger routes dragonboat's process-wide logging, and Go's standard logger,
// into log; without it both write to stderr in their own formats. dragonboat's goes
// to the first log given in a process. fatal is told when the library cannot write
// its own files; it must end the process.
func UseLogger(log *slog.Logger, fatal func(error)) {
	onDeviceError.Store(&fatal)
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
