;; Imports the interface that words.wat exports, in an older version.
(component
  (import "lib:words/words@1.0.0" (instance $words
    (export "shout" (func (param "text" string) (result string)))))
  (core module $memory
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $next))
      (global.set $next
        (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (core func $shout
    (canon lower (func $words "shout") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $module
    (import "words" "shout" (func $shout (param i32 i32 i32)))
    (func (export "greet") (param i32 i32) (result i32)
      (call $shout (local.get 0) (local.get 1) (i32.const 8))
      (i32.const 8)))
  (core instance $core (instantiate $module
    (with "words" (instance (export "shout" (func $shout))))))
  (func $greet (param "name" string) (result string)
    (canon lift (core func $core "greet") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (instance $greeter (export "greet" (func $greet)))
  (export "app:greeter/greeter" (instance $greeter)))
