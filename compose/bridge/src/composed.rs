//! What is generated for the tools of one program.

/// Parameters that are passed in registers, or one that says where they lie; then where results go.
pub const MAX_SLOTS: usize = 17;

#[link(wasm_import_module = "agentkernel:composed")]
extern "C" {
    /// The length of the program's data.
    #[link_name = "data-length"]
    fn data_length() -> usize;
    /// Copies the program's data to `to`.
    #[link_name = "data-copy"]
    fn data_copy(to: *mut u8);
    /// Calls function `number` with its parameters in `slots`, as registers hold them. What it returns
    /// in a register is then in the first one.
    #[link_name = "call"]
    fn call_function(number: u32, slots: *mut u64);
    /// Closes a handle of resource type `resource`.
    #[link_name = "drop"]
    fn drop_handle(resource: u32, handle: u32);
}

pub fn data() -> Vec<u8> {
    // SAFETY: the generated function writes just as many bytes as the other one says.
    unsafe {
        let length = data_length();
        let mut data = Vec::with_capacity(length);
        data_copy(data.as_mut_ptr());
        data.set_len(length);
        data
    }
}

/// Calls a function of a tool.
///
/// # Safety
///
/// `slots` must be the function's parameters as the canonical ABI has them.
pub unsafe fn call(number: u32, slots: &mut [u64; MAX_SLOTS]) {
    unsafe { call_function(number, slots.as_mut_ptr()) }
}

/// Closes a handle, which must be open.
pub fn drop(resource: u32, handle: u32) {
    // SAFETY: a handle that is not open makes this component trap.
    unsafe { drop_handle(resource, handle) }
}
