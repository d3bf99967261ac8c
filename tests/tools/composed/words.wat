;; Exports one interface, by hand: any language will do.
(component
  (core module $module
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $next))
      (global.set $next
        (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
      (local.get $at))
    ;; Makes small letters large where they lie.
    (func (export "shout") (param $at i32) (param $length i32) (result i32)
      (local $i i32) (local $byte i32)
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $length))
      (block $done
        (loop $next
          (br_if $done (i32.ge_u (local.get $i) (local.get $length)))
          (local.set $byte (i32.load8_u (i32.add (local.get $at) (local.get $i))))
          (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 97)) (i32.const 26))
            (then
              (i32.store8 (i32.add (local.get $at) (local.get $i))
                (i32.sub (local.get $byte) (i32.const 32)))))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $next)))
      (i32.const 0)))
  (core instance $core (instantiate $module))
  (func $shout (param "text" string) (result string)
    (canon lift (core func $core "shout") (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
  (instance $words (export "shout" (func $shout)))
  (export "lib:words/words@1.2.0" (instance $words)))
