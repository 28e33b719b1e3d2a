package main

import (
	"context"
	"errors"
)

func buildJS(context.Context, []string) (any, error) { return nil, errors.New("todo") }
func run(context.Context, []string) (any, error)     { return nil, errors.New("todo") }
func check(context.Context, []string) (any, error)   { return nil, errors.New("todo") }
