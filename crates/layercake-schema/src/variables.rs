//! The variables of a node: their addresses and values. The first value always means *unknown*.

macro_rules! variable {
    ($(#[$about:meta])* $module:ident { $($(#[$what:meta])* $value:ident,)+ }) => {
        $(#[$about])*
        pub mod $module {
            /// Its address.
            pub const PATH: &str = stringify!($module);
            $($(#[$what])* pub const $value: &str = stringify!($value);)+
            /// Every value, unknown first.
            pub const VALUES: &[&str] = &[$($value),+];
        }
    };
}

variable! {
    /// Whether the machine has power. Written by the parent's power module.
    phys_state {
        /// Nobody has asked yet.
        PHYS_UNKNOWN,
        /// No power: nothing executes.
        POWER_OFF,
        /// Powered, and executing as far as can be told.
        POWER_ON,
        /// In the middle of being switched off and on by somebody else, such as a controller.
        POWER_CYCLE,
        /// Powered, but what was expected of it did not come in time.
        PHYS_HANG,
        /// Its power controller says that something is wrong.
        PHYS_ERROR,
        /// Powered when it was first looked at, and not heard: something else may run on it.
        PHYS_FOUND,
    }
}

variable! {
    /// How far the network boot of the machine is. Written by the parent's boot module.
    boot_state {
        /// The boot service does not expect the machine.
        UNKNOWN,
        /// The boot service answers the machine, and a join token waits for it.
        WAIT,
        /// Kernel, initramfs and seed were handed out.
        INIT,
    }
}

variable! {
    /// Whether Layer 0 runs and is heard. Written by the parent when the node cannot.
    run_state {
        /// Nothing is known of it.
        UNKNOWN,
        /// Its kernel is starting, or it has taken its leave.
        INIT,
        /// It has joined, and is heard from.
        SYNC,
        /// It had joined, and is silent.
        ERROR,
    }
}

variable! {
    /// How the node's system images are. Written by the node.
    image_state {
        /// The image service has not spoken yet.
        UNKNOWN,
        /// None runs.
        IDLE,
        /// All that are configured run.
        ACTIVE,
        /// Some run, but others than configured, or differently.
        UPDATE,
        /// One that is configured cannot be started, or has ended.
        ERROR,
        /// The image service cannot go on: only a reboot helps.
        FATAL,
    }
}

variable! {
    /// The right to take over a machine that was found running. Said by the engine and by people.
    claim {
        /// Nobody said anything.
        UNKNOWN,
        /// Its node may still be heard.
        AWAITED,
        /// A person said that it may be taken over, whatever runs on it.
        GRANTED,
    }
}

variable! {
    /// Whether the node is in use, so that nothing may disturb it. Said by a scheduler or a person.
    busy {
        /// Nobody said so.
        UNKNOWN,
        /// It may be disturbed.
        FREE,
        /// It must not be disturbed.
        BUSY,
    }
}
